//! A member who works together with the relay: what is signed is signed by somebody who may, and
//! there is still something wrong with it.

use std::time::Instant;

use anyhow::ensure;
use mildam_e2ee::records::{ClientMessageId, MessageHeader, Receipt, ReceiptKind};
use mildam_tests::PATIENCE;

use super::hand::Hand;
use super::*;
use crate::Outcome;

type Lie = fn(&mut MessageHeader);

const ID: ClientMessageId = ClientMessageId::from_bytes([9; 16]);

// REQ M2: a member's device that lies in its header, with a good signature and the relay's help.
#[test]
fn a_member_that_lies_in_its_header_is_refused() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let hand = Hand::of(&alice)?;
    let honest = hand.seal(&room, ID, "속임")?;
    let asleep = Home::keep(&bob)?;
    let lies: [(Lie, &str); 9] = [
        (|header| header.n = 1 << 63, "jump_too_far"),
        (|header| header.n = u64::MAX, "jump_too_far"),
        (|header| header.n += 1025, "jump_too_far"),
        (|header| header.n = 0, "replayed"),
        (|header| header.epoch = 2, "stale"),
        (|header| header.version = u64::MAX, "stale"),
        (|header| header.seen_seq = u64::MAX, "log_mismatch"),
        (|header| header.format = 2, "needs_newer_version"),
        (|header| header.id = ClientMessageId::from_bytes([1; 16]), "does_not_open"),
    ];
    for (lie, code) in lies {
        let mut message = honest.clone();
        lie(&mut message.header);
        let message = hand.sign_message(message);
        let item = json!({ "message": message });
        let rule = stage.middle.on_answer("room_log", append("bob", 3, item));
        hear(&bob, &room, &["하나"])?;
        stage.middle.lift(rule);
        assert_refused(&bob, &room, &[("alice", code)])?;
        let expected = (code == "log_mismatch").then_some("log_mismatch");
        assert_eq!(blocked(&bob, &room)?.as_deref(), expected, "{code}");
        asleep.restore(&bob)?;
    }
    Ok(())
}

// REQ M2: what shows without the keys, an honest relay does not even take.
#[test]
fn the_relay_refuses_the_lies_that_it_can_see() -> Outcome {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let hand = Hand::of(&alice)?;
    let honest = hand.seal(&room, ID, "속임")?;
    let lies: [(Lie, &str); 7] = [
        (|header| header.n = 1 << 63, "bad_record"),
        (|header| header.n = 0, "stale"),
        (|header| header.epoch = 2, "stale"),
        (|header| header.version = u64::MAX, "stale"),
        (|header| header.seen_seq = 1, "log_mismatch"),
        (|header| header.format = 2, "bad_record"),
        (|header| header.sender_list = mildam_e2ee::records::Hash::ZERO, "stale"),
    ];
    for (lie, code) in lies {
        let mut message = honest.clone();
        lie(&mut message.header);
        let message = hand.sign_message(message);
        let asked = hand.ask(&stage.scene.relay, "message_send", &json!({ "message": message }))?;
        assert_eq!(asked, Err(code.to_owned()), "{:?}", message.header);
    }
    hear(&bob, &room, &["하나"])?;
    assert_refused(&bob, &room, &[])
}

/// Bob, who works with the relay, answers Alice's message under the id that she gave to hers, before
/// hers is in the log.
fn copied_id() -> Result<(Stage, [Person; 2], String)> {
    let stage = Stage::start()?;
    let (alice, bob, room) = stage.pair()?;
    let hand = Hand::of(&bob)?;
    send_later(&stage, &alice, &room, "진짜")?;
    let lines = alice.done(&["history", &room])?;
    let id = lines.last().and_then(|line| line.get("id")?.as_str()).context("the message that waits")?;
    let copy = hand.seal(&room, id.parse()?, "가짜")?;
    let asked = hand.ask(&stage.scene.relay, "message_send", &json!({ "message": copy }))?;
    asked.map_err(|code| anyhow::anyhow!("not sent: {code}"))?;
    Ok((stage, [alice, bob], room))
}

// REQ M2, M3: who copies the id of a message does not take its place.
#[test]
fn a_copied_message_id_takes_nothing_away() -> Outcome {
    let (stage, [alice, _bob], room) = copied_id()?;
    // Where the relay even says that Alice's message comes too late, the copy is not taken for it.
    let mut refused = 0;
    stage.middle.rule(move |traffic| {
        let first = traffic.kind == Kind::Request && traffic.name == "message_send" && refused == 0;
        refused += u64::from(first);
        if first { Fate::Refuse("stale") } else { Fate::Pass }
    });
    alice.done(&["sync"])?;
    hear(&alice, &room, &["하나", "가짜", "진짜"])?;
    let who = alice.texts(&room)?.into_iter().map(|(from, _)| from).collect::<Vec<_>>();
    assert_eq!(who, ["alice", "bob", "alice"]);
    assert_eq!(states(&alice, &room)?, ["delivered", "stored"]);
    Ok(())
}

// REQ M2: a window shows each line under its id: two of one id would be one line.
#[test]
fn lines_of_a_history_have_ids_of_their_own() -> Outcome {
    let (_stage, [alice, _bob], room) = copied_id()?;
    hear(&alice, &room, &["하나", "가짜", "진짜"])?;
    let lines = alice.done(&["history", &room])?;
    let ids: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line.get("id").map(Value::to_string)).collect();
    assert_eq!(ids.len(), lines.len(), "{lines:?}");
    Ok(())
}

// REQ M2: a receipt that overtakes what it is about counts once that is there.
#[test]
fn a_receipt_that_comes_early_is_kept() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let mut listener = alice.listen()?;
    say(&alice, &room, "둘")?;
    let own = listener.wait_text("둘")?;
    let own = own.get("id").and_then(Value::as_str).context("an id")?.to_owned();
    let held = Arc::new(Mutex::new(None));
    let hold = Arc::clone(&held);
    let rule = stage.middle.rule(move |traffic| {
        if traffic.account != "alice" || traffic.kind != Kind::Push || traffic.name != "log" {
            return Fate::Pass;
        }
        lock(&hold).get_or_insert_with(|| traffic.data.clone());
        Fate::Withhold
    });
    say(&bob, &room, "셋")?;
    // All that Carol has to say of it stands in one receipt, for the last entry.
    carol.done(&["sync"])?;
    let of_carol = |traffic: &Traffic| {
        let receipt = traffic.data.pointer("/receipt/account").and_then(Value::as_str);
        traffic.account == "alice" && traffic.kind == Kind::Push && receipt == Some("carol")
    };
    let deadline = Instant::now() + PATIENCE;
    while stage.middle.seen(of_carol).is_empty() || lock(&held).is_none() {
        ensure!(Instant::now() < deadline, "the receipt did not come before the entry");
        std::thread::yield_now();
    }
    stage.middle.lift(rule);
    let entry = lock(&held).take().context("an entry was held back")?;
    stage.middle.push("alice", "log", entry)?;
    listener.wait_state(&own, "delivered")
}

// REQ M2: a receipt counts if its device has signed it for this room, this place and this log.
#[test]
fn receipts_that_the_relay_or_a_member_makes_up_change_nothing() -> Outcome {
    let stage = Stage::start()?;
    let ([alice, bob, carol], room) = stage.group()?;
    let other = bob.direct(&alice)?;
    let hand = Hand::of(&bob)?;
    // Bob's true receipts do not come through.
    stage.middle.rule(|traffic| {
        let receipts = traffic.kind == Kind::Request && traffic.name == "receipt_send";
        if receipts { Fate::Answer(json!({})) } else { Fate::Pass }
    });
    say(&alice, &room, "둘")?;
    say(&bob, &other, "따로")?;
    bob.done(&["sync"])?;
    carol.done(&["sync"])?;
    let fits = |receipt: &Value| receipt.get("room").and_then(Value::as_str) == Some(&room);
    let true_ones: Vec<Receipt> = ["bob", "carol"]
        .iter()
        .flat_map(|account| stage.middle.asked(account, "receipt_send"))
        .filter_map(|asked| {
            Some(asked.get("receipts")?.as_array()?.iter().rev().find(|one| fits(one))?.clone())
        })
        .map(serde_json::from_value)
        .collect::<Result<_, _>>()?;
    let by =
        |name: &str| true_ones.iter().rev().find(|one| one.account.as_str() == name).context("a receipt");
    let (bobs, carols) = (by("bob")?, by("carol")?);
    assert_eq!((bobs.seq, carols.seq), (3, 3));
    let mut listener = alice.listen()?;
    let mut made_up = vec![
        // The relay alone: another's name, place, kind.
        Receipt { kind: ReceiptKind::Read, ..bobs.clone() },
        Receipt { seq: 2, ..bobs.clone() },
        Receipt { account: carols.account.clone(), device: carols.device, ..bobs.clone() },
        Receipt { device: carols.device, ..bobs.clone() },
        Receipt { signature: carols.signature, ..bobs.clone() },
        Receipt { room: other.parse()?, ..bobs.clone() },
    ];
    // Bob himself: of a log that is not hers, for a place that does not exist, in Carol's name.
    for signed in [
        Receipt { hash: mildam_e2ee::records::Hash::ZERO, ..bobs.clone() },
        Receipt { seq: 1 << 63, ..bobs.clone() },
        Receipt { seq: u64::MAX, ..bobs.clone() },
        Receipt { account: carols.account.clone(), device: carols.device, ..bobs.clone() },
        Receipt { room: other.parse()?, ..bobs.clone() },
    ] {
        made_up.push(hand.sign_receipt(signed));
    }
    for receipt in made_up {
        stage.middle.push("alice", "receipt", json!({ "receipt": receipt }))?;
    }
    // Everything is handled in its order: when this arrives, the receipts have been judged.
    say(&carol, &room, "셋")?;
    listener.wait_text("셋")?;
    drop(listener);
    assert_eq!(states(&alice, &room)?.last().map(String::as_str), Some("stored"));
    // The true ones count, once and however often they come.
    let mut listener = alice.listen()?;
    for receipt in [bobs, carols, bobs, carols] {
        stage.middle.push("alice", "receipt", json!({ "receipt": receipt }))?;
    }
    let lines = alice_line(&mut listener, "둘")?;
    assert_eq!(lines, "delivered");
    Ok(())
}

/// The state in which a text of one's own is told next.
fn alice_line(listener: &mut mildam_tests::Listener, text: &str) -> Result<String> {
    listener.wait("a new state", |event| {
        let same = event.get("text")?.as_str()? == text;
        let state = event.get("state")?.as_str()?;
        (same && state != "stored").then(|| state.to_owned())
    })
}
