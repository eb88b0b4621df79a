//! Who may come in.

use anyhow::{Context as _, Result, ensure};
use mildam_tests::{Person, Scene};

use crate::Outcome;

/// Signs up and is refused; tells exit code and error code.
fn refused(person: &Person, more: &[&str]) -> Result<(i32, String)> {
    let (account, email) = (person.account(), person.email());
    let basic = ["signup", "--id", account, "--email", &email, "--password-stdin"];
    let arguments = [basic.as_slice(), more].concat();
    let answer = person.run(&arguments, Some(&person.password()))?;
    let (code, message) = answer.error.with_context(|| format!("{account} is not refused"))?;
    ensure!(message.contains("ask the person who runs"), "it does not say what to do: {message}");
    Ok((answer.code, code))
}

// REQ A1, S1: a relay lets in whom its operator invited, one for each link.
#[test]
fn people_come_in_by_invitation_one_for_each_link() -> Outcome {
    let mut scene = Scene::start_for("invitation")?;
    let first = scene.relay.link().to_owned();
    // mildam://host:port/#fingerprint//token
    let (bare, token) = first.rsplit_once("//").context("the first link invites nobody")?;
    let (alice, bob) = (scene.stranger("alice"), scene.stranger("bob"));
    bob.done(&["connect", bare])?;
    assert_eq!(refused(&bob, &[])?, (1, "invitation_needed".to_owned()));
    alice.sign_up(&first)?;
    assert_eq!(refused(&bob, &["--invitation", token])?, (1, "invitation_invalid".to_owned()));

    // While it runs, and after a start that shows no invitation any more.
    let second = scene.relay.invite()?;
    bob.sign_up(&second)?;
    let third = scene.relay.invite()?;
    scene.relay.stop()?;
    scene.relay.restart()?;
    assert_eq!(scene.relay.link(), bare);
    let carol = scene.stranger("carol");
    carol.done(&["connect", &second])?;
    assert_eq!(refused(&carol, &[])?, (1, "invitation_invalid".to_owned()));
    let email = carol.email();
    let arguments =
        ["signup", "--id", "carol", "--email", &email, "--password-stdin", "--invitation", &third];
    carol.run(&arguments, Some(&carol.password()))?.done()?;
    scene.befriend(&alice, &bob)
}

// REQ A1, S1
#[test]
fn a_closed_relay_lets_nobody_in() -> Outcome {
    let scene = Scene::start_for("closed")?;
    let alice = scene.stranger("alice");
    alice.done(&["connect", &scene.relay.invite()?])?;
    assert_eq!(refused(&alice, &[])?, (1, "sign_up_closed".to_owned()));
    Ok(())
}
