//! A relay and people with clients, in one process.

pub(crate) use std::path::{Path, PathBuf};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicI64, Ordering};
pub(crate) use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use mildam_client::{
    Client, ClientState, Clock, ConnectionState, Event, EventStream, MessageContent, MessageState,
    MessageView, RoomView, SignUp, Unlock,
};
pub(crate) use mildam_relay::{Config, Relay};
pub(crate) use tempfile::TempDir;
pub(crate) use tokio::task::JoinHandle;
pub(crate) use tokio_util::sync::CancellationToken;
pub(crate) use zeroize::Zeroizing;

/// Longer than anything here takes; what it guards against is waiting for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Server {
    pub(crate) data: PathBuf,
    pub(crate) link: String,
    pub(crate) listen: std::net::SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// A clock that a test sets, as far ahead of this computer's as it likes, in milliseconds.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<AtomicI64>);

impl Ahead {
    pub(crate) fn set(&self, milliseconds: i64) {
        self.0.store(milliseconds, Ordering::Relaxed);
    }

    pub(crate) fn of_now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(since.as_millis()).unwrap();
        u64::try_from(now.saturating_add(self.0.load(Ordering::Relaxed))).unwrap_or(0)
    }

    pub(crate) fn of_client(&self) -> Clock {
        let own = self.clone();
        Clock::new(move || own.of_now())
    }

    fn of_relay(&self) -> mildam_relay::Clock {
        let own = self.clone();
        mildam_relay::Clock::new(move || own.of_now())
    }
}

impl Server {
    pub(crate) async fn start(data: &Path, listen: &str) -> Self {
        Self::start_by(&Ahead::default(), data, listen).await
    }

    /// Starts one with a clock that the test sets.
    pub(crate) async fn start_by(ahead: &Ahead, data: &Path, listen: &str) -> Self {
        let mut config = Config::new(data.to_owned());
        config.clock = ahead.of_relay();
        config.listen = Some(listen.parse().unwrap());
        config.public_host = Some("127.0.0.1".to_owned());
        config.sign_up = mildam_relay::SignUpMode::Open;
        let relay = Relay::bind(config).await.unwrap();
        let (link, listen) = (relay.ready().link.to_string(), relay.ready().tls);
        let stop = CancellationToken::new();
        let serve = relay.serve(stop.clone());
        let task = tokio::spawn(async move { serve.await.unwrap() });
        Self { data: data.to_owned(), link, listen, stop, task }
    }

    pub(crate) async fn stop(self) -> (PathBuf, std::net::SocketAddr) {
        self.stop.cancel();
        self.task.await.unwrap();
        (self.data, self.listen)
    }
}

pub(crate) struct Person {
    pub(crate) client: Client,
    pub(crate) events: EventStream,
    pub(crate) home: PathBuf,
}

pub(crate) async fn open(home: &Path) -> Client {
    open_by(&Ahead::default(), home).await
}

/// Opens a client with a clock that the test sets.
pub(crate) async fn open_by(ahead: &Ahead, home: &Path) -> Client {
    let unlock = Unlock::Passphrase(Zeroizing::new("a passphrase".to_owned()));
    Client::open_with(home, unlock, ahead.of_client()).await.unwrap()
}

impl Person {
    pub(crate) async fn sign_up(home: &Path, account: &str, link: &str) -> Self {
        let client = open(home).await;
        let events = client.subscribe();
        client.connect(link).await.unwrap();
        let sign_up = SignUp {
            account: account.to_owned(),
            email: format!("{account}@example.org"),
            password: Zeroizing::new("correct horse".to_owned()),
            nickname: account.to_uppercase(),
        };
        let view = client.sign_up(sign_up).await.unwrap();
        assert_eq!((view.account.as_str(), view.logged_in), (account, true));
        assert!(view.words_pending);
        Self { client, events, home: home.to_owned() }
    }

    /// Waits for an event that fits.
    pub(crate) async fn until<T>(&mut self, mut fits: impl FnMut(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.next().await.expect("the client is shut down");
                if let Some(found) = fits(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("no such event")
    }

    pub(crate) async fn until_text(&mut self, text: &str, state: MessageState) -> MessageView {
        self.until(|event| match event {
            Event::Message { message } if message.state >= state && text_of(message) == Some(text) => {
                Some(message.clone())
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn until_connection(&mut self, wanted: ConnectionState) {
        self.until(|event| match event {
            Event::State { state: ClientState { connection, .. } } => (*connection == wanted).then_some(()),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn until_room(&mut self, fits: impl Fn(&RoomView) -> bool) -> RoomView {
        self.until(|event| match event {
            Event::Room { room } => fits(room).then(|| room.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn texts(&self, room: &str) -> Vec<String> {
        let page = self.client.history(room, None, 200).await.unwrap();
        page.messages.iter().filter_map(|message| text_of(message).map(str::to_owned)).collect()
    }

    pub(crate) async fn befriend(&mut self, other: &mut Person) {
        let name = |person: &ClientState| person.account.as_ref().unwrap().account.clone();
        let (own, theirs) =
            (name(&self.client.state().await.unwrap()), name(&other.client.state().await.unwrap()));
        self.client.request_friend(&theirs, "안녕!").await.unwrap();
        other
            .until(|event| match event {
                Event::Friends { friends } => {
                    friends.incoming.iter().find(|request| request.account == own).map(|_| ())
                }
                _ => None,
            })
            .await;
        other.client.accept_friend(&own).await.unwrap();
        self.until(|event| match event {
            Event::Friends { friends } => {
                friends.friends.iter().find(|friend| friend.account == theirs).map(|_| ())
            }
            _ => None,
        })
        .await;
    }
}

pub(crate) fn text_of(message: &MessageView) -> Option<&str> {
    match &message.content {
        MessageContent::Text { text, .. } => Some(text),
        _ => None,
    }
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) server: Server,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::new_by(&Ahead::default()).await
    }

    /// A relay with a clock that the test sets.
    pub(crate) async fn new_by(ahead: &Ahead) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_by(ahead, &folder.path().join("relay"), "127.0.0.1:0").await;
        Self { folder, server }
    }

    pub(crate) async fn person(&self, account: &str) -> Person {
        Person::sign_up(&self.folder.path().join(account), account, &self.server.link).await
    }
}
