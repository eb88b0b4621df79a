//! A server that moves, or has another key.

use anyhow::{Context as _, Result};
use mildam_tests::{Person, Scene};
use serde_json::Value;

use crate::Outcome;

fn shown(person: &Person) -> Result<Value> {
    person.done(&["server"])?.into_iter().next().context("nothing is shown of the server")
}

#[test]
fn a_replaced_server_key_is_decided_on_the_command_line() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    let known = shown(&alice)?["server"]["fingerprint"].clone();
    assert_eq!(alice.refused(&["server", "decide", "--keep"])?, (2, "usage".to_owned()));
    scene.relay.replace_server_key()?;
    assert_eq!(alice.refused(&["sync"])?, (1, "wrong_fingerprint".to_owned()));
    let state = shown(&alice)?;
    assert_eq!(state["offered_key"]["known"], known);
    let found = state["offered_key"]["found"].as_str().context("no key is offered")?.to_owned();
    // Only the key that was named is taken, and only if it is the one that is shown.
    let named = known.as_str().unwrap_or_default();
    assert_eq!(alice.refused(&["server", "decide", "--take", named])?, (2, "usage".to_owned()));
    alice.done(&["server", "decide", "--keep"])?;
    assert_eq!(alice.refused(&["sync"])?, (1, "wrong_fingerprint".to_owned()));
    alice.done(&["server", "decide", "--take", &found])?;
    alice.done(&["sync"])?;
    let state = shown(&alice)?;
    assert_eq!((&state["server"]["fingerprint"], &state["offered_key"]), (&found.into(), &Value::Null));
    Ok(())
}

#[test]
fn a_server_is_found_again_where_it_was_before() -> Outcome {
    let mut scene = Scene::start()?;
    let alice = scene.alice()?;
    let before = shown(&alice)?["server"]["address"].clone();
    let first = scene.relay.tls().to_owned();
    scene.relay.move_away()?;
    assert_eq!(alice.refused(&["sync"])?, (3, "offline".to_owned()));
    alice.done(&["connect", scene.relay.link()])?;
    alice.done(&["sync"])?;
    let moved = shown(&alice)?["server"].clone();
    assert_ne!(moved["address"], before);
    assert_eq!(moved["others"], Value::Array(vec![before.clone()]));
    // Back again, and nobody tells.
    scene.relay.stop()?;
    scene.relay.restart_at(&first)?;
    alice.done(&["sync"])?;
    let back = shown(&alice)?["server"].clone();
    assert_eq!((&back["address"], &back["others"]), (&before, &Value::Array(vec![moved["address"].clone()])));
    let address = moved["address"].as_str().context("no address")?;
    alice.done(&["server", "forget", address])?;
    assert_eq!(shown(&alice)?["server"]["others"], Value::Array(Vec::new()));
    let only = before.as_str().context("no address")?;
    assert_eq!(alice.refused(&["server", "forget", only])?, (1, "forbidden".to_owned()));
    Ok(())
}
