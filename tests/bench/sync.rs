//! What has waited for a device that was away, read by the real client from the real relay over
//! TLS, both in this process, into a vault on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mildam_client::{
    Client, ClientState, ConnectionState, Event, EventStream, MessageContent, MessageView, SignUp, Unlock,
};
use mildam_protocol::ServerLink;
use mildam_relay::{Config, Rate, Relay};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::primitives::Primitives;
use crate::sender::Sender;
use crate::table::{Aim, Figure};

/// How many messages wait.
const WAITING: u64 = 10_000;
const TEXT: &str = "냉면 좋지. See you at noon!";

/// The sync, from being online until the last message is durable and told.
pub fn figure(bare: &Primitives) -> Result<Figure> {
    let time = tokio::runtime::Runtime::new()?.block_on(sync())?;
    let each = bare.gcm_open + bare.verify;
    Ok(Figure {
        what: format!("sync {WAITING} messages"),
        time,
        primitives: Some((format!("{WAITING} x (AES-GCM, Ed25519)"), each * u32::try_from(WAITING)?)),
        aim: Aim::Time(Duration::from_secs(2)),
    })
}

async fn sync() -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path().join("relay"));
    config.listen = Some("127.0.0.1:0".parse()?);
    config.plain_listen = Some("127.0.0.1:0".parse()?);
    config.public_host = Some("127.0.0.1".to_owned());
    config.sign_up = mildam_relay::SignUpMode::Open;
    // It is to be measured how fast all goes, not how fast a relay lets it go.
    let free = Rate::new(u32::MAX, u32::MAX, 1);
    let limits = &mut config.limits;
    (limits.messages, limits.requests, limits.bytes) = (free, free, free);
    let relay = Relay::bind(config).await?;
    let link = relay.ready().link.clone();
    let plain = relay.ready().plain.context("the relay serves plain TCP")?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(relay.serve(stop.clone()));

    eprintln!("Making a relay and two people …");
    let (alice_home, bob_home) = (folder.path().join("alice"), folder.path().join("bob"));
    let (alice, bob) =
        tokio::try_join!(sign_up(&alice_home, "alice", &link), sign_up(&bob_home, "bob", &link))?;
    alice.request_friend("bob", "").await?;
    bob.accept_friend("alice").await?;
    let room = alice.open_direct("bob").await?.room;
    bob.shut_down().await;
    alice.shut_down().await;

    eprintln!("Sending {WAITING} messages …");
    let sender_room = room.clone();
    tokio::task::spawn_blocking(move || {
        let mut sender = Sender::open(&alice_home, unlock(), &sender_room, plain, &link)?;
        (1..=WAITING).try_for_each(|number| sender.say(format!("{TEXT} {number}"), number))
    })
    .await??;

    eprintln!("Reading them …");
    let bob = Client::open(&bob_home, unlock()).await?;
    let mut news = bob.subscribe();
    until_online(&mut news).await?;
    let begin = Instant::now();
    let last = format!("{TEXT} {WAITING}");
    until_text(&mut news, &bob, &room, &last).await?;
    let taken = begin.elapsed();
    bob.shut_down().await;
    stop.cancel();
    serving.await??;
    Ok(taken)
}

fn unlock() -> Unlock {
    Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned()))
}

async fn sign_up(home: &Path, account: &str, link: &ServerLink) -> Result<Client> {
    let client = Client::open(home, unlock()).await?;
    client.connect(&link.to_string()).await?;
    let sign_up = SignUp {
        account: account.to_owned(),
        email: format!("{account}@example.org"),
        password: Zeroizing::new("correct horse".to_owned()),
        nickname: String::new(),
    };
    client.sign_up(sign_up).await?;
    Ok(client)
}

async fn until_online(news: &mut EventStream) -> Result<()> {
    loop {
        let event = news.next().await.context("the client is shut down")?;
        if let Event::State { state: ClientState { connection: ConnectionState::Online, .. } } = event {
            return Ok(());
        }
    }
}

/// Waits until the room's newest line has this text.
async fn until_text(news: &mut EventStream, client: &Client, room: &str, wanted: &str) -> Result<()> {
    let is = |message: &MessageView| matches!(&message.content, MessageContent::Text { text, .. } if text == wanted);
    loop {
        let newest = match news.next().await.context("the client is shut down")? {
            Event::Message { message } => Some(message),
            // So much was told that some of it was lost.
            Event::Resync => client.room(room).await?.last,
            _ => None,
        };
        if newest.is_some_and(|message| is(&message)) {
            return Ok(());
        }
    }
}
