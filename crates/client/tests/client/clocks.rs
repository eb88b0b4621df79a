//! Clocks that are wrong, of a person or of the relay, and then right again.

use crate::world::*;

const DAY: i64 = 24 * 60 * 60 * 1_000;
/// From a minute to a century.
const WRONG: [i64; 5] = [60_000, DAY, 8 * DAY, 400 * DAY, 36_500 * DAY];

/// Alice and Bob with a room, and clocks for Alice and the relay.
struct Talk {
    world: World,
    alice: PathBuf,
    bob: Person,
    room: String,
}

impl Talk {
    async fn start(relay: &Ahead) -> Self {
        let world = World::new_by(relay).await;
        let (mut alice, mut bob) = tokio::join!(world.person("alice"), world.person("bob"));
        alice.befriend(&mut bob).await;
        let room = alice.client.open_direct("bob").await.unwrap().room;
        alice.client.shut_down().await;
        Self { alice: alice.home, world, bob, room }
    }

    /// Alice, by this clock, says something that arrives, and reads an answer.
    async fn says(&mut self, clock: &Ahead, text: &str) -> ClientState {
        let client = open_by(clock, &self.alice).await;
        let mut alice = Person { events: client.subscribe(), client, home: self.alice.clone() };
        alice.client.wait_online().await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        alice.client.send(&self.room, text).await.unwrap();
        self.bob.until_text(text, MessageState::Received).await;
        let answer = format!("yes, {text}");
        self.bob.client.send(&self.room, &answer).await.unwrap();
        alice.until_text(&answer, MessageState::Received).await;
        let state = alice.client.state().await.unwrap();
        alice.client.shut_down().await;
        state
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_keeps_nobody_from_talking() {
    let mut talk = Talk::start(&Ahead::default()).await;
    let clock = Ahead::default();
    for wrong in WRONG.into_iter().flat_map(|wrong| [wrong, -wrong]) {
        clock.set(wrong);
        let ahead = talk.says(&clock, &format!("{wrong} ahead")).await.clock_ahead;
        match wrong.abs() {
            60_000 => assert_eq!(ahead, None),
            // Before 1970 there is no time.
            _ if wrong == -36_500 * DAY => assert!(ahead.unwrap() < -50 * 365 * DAY),
            _ => assert!((ahead.unwrap() - wrong).abs() < 60_000, "{wrong}: {ahead:?}"),
        }
        clock.set(0);
        assert_eq!(talk.says(&clock, &format!("right after {wrong}")).await.clock_ahead, None);
    }
    talk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relays_wrong_clock_keeps_nobody_from_talking() {
    let relay = Ahead::default();
    let mut talk = Talk::start(&relay).await;
    for wrong in [60_000, DAY, 8 * DAY].into_iter().flat_map(|wrong| [wrong, -wrong]).chain([-400 * DAY]) {
        relay.set(wrong);
        talk.says(&Ahead::default(), &format!("the relay is {wrong} ahead")).await;
        relay.set(0);
        talk.says(&Ahead::default(), &format!("the relay is right after {wrong}")).await;
    }
    talk.world.server.stop().await;
}

/// What a sender's clock says is shown within bounds, and ranks neither rooms nor hits.
#[tokio::test(flavor = "multi_thread")]
async fn a_senders_clock_ranks_nothing() {
    let world = World::new().await;
    let (alice, mut bob, carol) =
        tokio::join!(world.person("alice"), world.person("bob"), world.person("carol"));
    let (mut alice, mut carol) = (alice, carol);
    alice.befriend(&mut bob).await;
    carol.befriend(&mut bob).await;
    let early = alice.client.open_direct("bob").await.unwrap().room;
    let late = carol.client.open_direct("bob").await.unwrap().room;
    alice.client.shut_down().await;
    let clock = Ahead::default();
    for (turn, wrong) in [20 * 60 * 60 * 1_000, 400 * DAY, 9_000_000_000_000_000].into_iter().enumerate() {
        clock.set(wrong);
        let client = open_by(&clock, &alice.home).await;
        client.wait_online().await.unwrap();
        let text = format!("topic from the future {turn}");
        client.send(&early, &text).await.unwrap();
        let shown = bob.until_text(&text, MessageState::Received).await.sent_at;
        let now = Ahead::default().of_now();
        assert!(shown <= now + 60_000, "shown as {shown}, it is {now}");
        client.shut_down().await;

        let text = format!("topic of now {turn}");
        carol.client.send(&late, &text).await.unwrap();
        bob.until_text(&text, MessageState::Received).await;
        let rooms = bob.client.rooms().await.unwrap();
        assert_eq!(rooms.first().map(|room| room.room.as_str()), Some(late.as_str()));
        let hits = bob.client.search("topic", 10).await.unwrap();
        assert_eq!(hits.first().and_then(|hit| text_of(&hit.message)), Some(text.as_str()));
    }
}
