//! Friends: requests, answers to them, and the list.

use mildam_protocol::command::{
    Done, FriendAccept, FriendDecline, FriendListAnswer, FriendRequest, FriendRequestAnswer,
};
use mildam_protocol::records::id::AccountId;
use mildam_protocol::{Code, Event, Refusal};

use super::{Scene, done, news, tell};
use crate::broker::{Address, News};
use crate::rules::{require, text};
use crate::store::{Committed, Rejection, Standing, Transaction};

/// `friend_request`. Who asks somebody that asked already has accepted.
pub(super) async fn request(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: FriendRequest,
) -> Result<Committed, Rejection> {
    text::greeting(&command.greeting)?;
    let own = &scene.caller.account;
    let other = &command.account;
    require(own != other, Code::Forbidden, "this is your own id")?;
    let (me, them) = both(tx, own, other).await?;
    let friends = tx.friends_since(own, other).await?.is_some();
    require(!friends, Code::AlreadyFriends, "you are friends already")?;
    if tx.has_request(other, own).await? {
        let news = befriend(tx, &scene, &me, &them).await?;
        return tell(&FriendRequestAnswer { friends: true }, news);
    }
    if tx.has_request(own, other).await? {
        return done(&FriendRequestAnswer { friends: false });
    }
    let most = scene.limits.waiting_requests;
    let waiting = tx.requests_from(own).await?.len();
    require(waiting < most, Code::LimitReached, "too many of your requests wait for an answer")?;
    let waiting = tx.requests_to(other).await?.len();
    require(waiting < most, Code::LimitReached, "too many requests wait for this account's answer")?;
    check_count(tx, &scene, own).await?;
    tx.insert_request(own, other, &command.greeting, scene.now).await?;
    let event = Event::FriendRequested {
        account: own.clone(),
        nickname: me.nickname,
        greeting: command.greeting,
        requested_at: scene.now,
    };
    let told = news(vec![Address::all(other.clone())], &event)?;
    tell(&FriendRequestAnswer { friends: false }, vec![told])
}

/// `friend_accept`. Accepting twice is no error: an answer may have been lost.
pub(super) async fn accept(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: FriendAccept,
) -> Result<Committed, Rejection> {
    let own = &scene.caller.account;
    let other = &command.account;
    if tx.friends_since(own, other).await?.is_some() {
        return done(&Done {});
    }
    let asked = tx.has_request(other, own).await?;
    require(asked, Code::NotFound, "there is no such request")?;
    let (me, them) = both(tx, own, other).await?;
    let news = befriend(tx, &scene, &me, &them).await?;
    tell(&Done {}, news)
}

/// `friend_decline`
pub(super) async fn decline(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: FriendDecline,
) -> Result<Committed, Rejection> {
    let own = &scene.caller.account;
    let other = &command.account;
    let asked = tx.delete_request(other, own).await?;
    require(asked, Code::NotFound, "there is no such request")?;
    let declined = |to: &AccountId, account: &AccountId| {
        let account = account.clone();
        news(vec![Address::all(to.clone())], &Event::FriendDeclined { account })
    };
    let told = vec![declined(other, own)?, declined(own, other)?];
    tell(&Done {}, told)
}

/// `friend_list`
pub(super) async fn list(tx: &mut dyn Transaction, scene: Scene) -> Result<Committed, Rejection> {
    let own = &scene.caller.account;
    let answer = FriendListAnswer {
        friends: tx.friends(own).await?,
        incoming: tx.requests_to(own).await?,
        outgoing: tx.requests_from(own).await?,
    };
    done(&answer)
}

async fn both(
    tx: &mut dyn Transaction,
    own: &AccountId,
    other: &AccountId,
) -> Result<(Standing, Standing), Rejection> {
    let unknown = || Refusal::new(Code::NotFound, "there is no such account");
    let me = tx.standing(own).await?.ok_or_else(unknown)?;
    let them = tx.standing(other).await?.ok_or_else(unknown)?;
    Ok((me, them))
}

/// Makes two friends, whoever of them asked, and tells both.
async fn befriend(
    tx: &mut dyn Transaction,
    scene: &Scene,
    me: &Standing,
    them: &Standing,
) -> Result<Vec<News>, Rejection> {
    check_count(tx, scene, &me.account).await?;
    check_count(tx, scene, &them.account).await?;
    tx.delete_request(&me.account, &them.account).await?;
    tx.delete_request(&them.account, &me.account).await?;
    tx.insert_friends(&me.account, &them.account, scene.now).await?;
    let accepted = |to: &Standing, friend: &Standing| {
        let event = Event::FriendAccepted {
            account: friend.account.clone(),
            nickname: friend.nickname.clone(),
            since: scene.now,
        };
        news(vec![Address::all(to.account.clone())], &event)
    };
    Ok(vec![accepted(them, me)?, accepted(me, them)?])
}

async fn check_count(tx: &mut dyn Transaction, scene: &Scene, account: &AccountId) -> Result<(), Rejection> {
    let count = tx.friend_count(account).await?;
    let fits = count < scene.limits.friends;
    Ok(require(fits, Code::LimitReached, "one of you has too many friends already")?)
}
