//! The program itself: how it starts, and how it is stopped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use mildam_protocol::command::{FriendRequest, MessageSend, RoomLog};
use mildam_protocol::records::RoomKind;
use mildam_protocol::{Code, ServerLink};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::person::{Person, texts};
use crate::relay::server_key;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mildam-relay");

pub struct Program {
    pub child: Child,
    ready: Value,
    pub link: ServerLink,
    pub tls: SocketAddr,
}

impl Program {
    pub async fn start(data: &Path) -> Self {
        Self::start_logging(data, Stdio::null()).await
    }

    pub async fn start_logging(data: &Path, log: Stdio) -> Self {
        Self::start_by(Command::new(PROGRAM), &[], data, log).await
    }

    /// Starts it by a command that takes the program's arguments, with some more of them.
    async fn start_by(mut command: Command, more: &[&str], data: &Path, log: Stdio) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--log", "debug", "--data"])
            .arg(data)
            .args(["--sign-up", "open"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("a line that says that it is ready");
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self { child, link: text("link").parse().unwrap(), tls: text("tls").parse().unwrap(), ready }
    }

    pub async fn client(&self) -> Client {
        Client::connect_to(self.tls, *self.link.fingerprint()).await
    }

    pub async fn connect(&self, name: &str) -> Person {
        Person::with(self.client().await, name)
    }

    /// Stops it, and waits until it has.
    pub async fn stop(mut self) {
        self.signal("TERM").await;
        assert!(self.child.wait().await.unwrap().success());
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
        assert!(sent.success());
    }
}

/// What comes back if a path is asked for over HTTP, head and body.
async fn get(address: &Value, path: &str) -> String {
    let mut stream = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub fn data() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("server-key.der"), server_key()).unwrap();
    data
}

// REQ S1
#[tokio::test]
async fn it_says_when_it_is_ready_and_keeps_its_link() {
    let data = data();
    let program = Program::start(data.path()).await;
    assert_eq!(program.ready["event"], "ready");
    assert_eq!(program.ready["plain"], Value::Null);
    assert_eq!(program.ready["metrics"], Value::Null);
    assert_eq!(program.link.port(), program.tls.port());
    let printed = Command::new(PROGRAM).args(["link", "--data"]).arg(data.path()).output().await.unwrap();
    assert!(printed.status.success());
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), format!("{}\n", program.link));

    // The directory is taken.
    let second = Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .output()
        .await
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another relay"));
}

// REQ S1
#[tokio::test]
async fn it_names_what_is_wrong() {
    let data = data();
    let config = data.path().join("relay.toml");
    std::fs::write(&config, "colour = 'blue'\n").unwrap();
    let serve = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").args(arguments).arg("--data").arg(data.path());
        command
    };
    let unknown = serve(&["--config", config.to_str().unwrap()]).output().await.unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("colour") && said.contains("relay.toml"), "{said}");
    assert_eq!(serve(&["--volume", "11"]).output().await.unwrap().status.code(), Some(2));
    assert_eq!(serve(&["--listen", "nowhere"]).output().await.unwrap().status.code(), Some(2));
    let empty = tempfile::tempdir().unwrap();
    let printed = Command::new(PROGRAM).args(["link", "--data"]).arg(empty.path()).output().await.unwrap();
    assert_eq!(printed.status.code(), Some(1));
}

// REQ S5
#[tokio::test]
async fn its_log_says_why_and_never_who() {
    let data = data();
    let log = data.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut program = Program::start_logging(data.path(), file.into()).await;
    let mut alice = program.connect("alice").await;
    let mut bob = program.connect("bob").await;
    for person in [&mut alice, &mut bob] {
        person.sign_up().await.unwrap();
        person.attach().await.unwrap();
    }
    alice.befriend(&mut bob).await;
    let room = alice.create(RoomKind::Direct, &[&bob.account.clone()]).await;
    alice.say(&room, "hello").await.unwrap();
    alice
        .client
        .ask(&FriendRequest { account: bob.account.clone(), greeting: "오랜만이야".into() })
        .await
        .unwrap_err();
    let wrong = bob.log_in_command("not the password").await;
    bob.client.ask(&wrong).await.unwrap_err();
    program.signal("TERM").await;
    assert!(program.child.wait().await.unwrap().success());

    let log = std::fs::read_to_string(&log).unwrap();
    for said in ["friend_request", "already_friends", "log_in", "wrong_credentials"] {
        assert!(log.contains(said), "{said} is missing:\n{log}");
    }
    let private = [
        "alice",
        "bob",
        "example.org",
        "correct horse",
        "not the password",
        "오랜만이야",
        "127.0.0.1",
        &room.to_string(),
        &alice.secrets.device().to_string(),
    ];
    for text in private {
        assert!(!log.contains(text), "{text} is in the log:\n{log}");
    }
}

// REQ S1, S5
#[tokio::test]
async fn it_warns_of_passwords_that_cannot_be_right_any_more() {
    let data = data();
    for (lost, warns) in [(false, false), (false, false), (true, true), (false, false)] {
        if lost {
            std::fs::remove_file(data.path().join("password-keys.bin")).unwrap();
        }
        let log = data.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut program = Program::start_logging(data.path(), file.into()).await;
        program.signal("TERM").await;
        assert!(program.child.wait().await.unwrap().success());
        let log = std::fs::read_to_string(&log).unwrap();
        assert_eq!(log.contains("WARN") && log.contains("password-keys.bin"), warns, "{log}");
    }
}

// REQ S5
#[tokio::test]
async fn it_counts_for_the_operator_at_a_place_of_its_own() {
    let data = data();
    let more = ["--metrics-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let program = Program::start_by(Command::new(PROGRAM), &more, data.path(), Stdio::null()).await;
    let (http, metrics) = (&program.ready["http"], &program.ready["metrics"]);
    for path in ["/healthz", "/readyz"] {
        assert!(get(http, path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    // Each place has its own pages only.
    for (address, path) in [(http, "/metrics"), (metrics, "/readyz"), (metrics, "/")] {
        assert!(get(address, path).await.starts_with("HTTP/1.1 404"), "{path}");
    }
    let shown = get(metrics, "/metrics").await;
    let version = format!("mildam_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    for line in [kind, &version, "# TYPE mildam_http_requests_total counter", "mildam_http_requests_total 3"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line} is missing:\n{shown}");
    }
    program.stop().await;
}

// REQ S1, S5
#[cfg(unix)]
#[tokio::test]
async fn it_raises_the_limit_of_files_and_keeps_within_it() {
    let data = data();
    let log = data.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 90 && ulimit -H -n 100 && exec \"$0\" \"$@\"", PROGRAM]);
    let more = ["--metrics-listen", "127.0.0.1:0"];
    let program = Program::start_by(shell, &more, data.path(), file.into()).await;
    let shown = get(&program.ready["metrics"], "/metrics").await;
    assert!(shown.contains("\nmildam_connections_limit 36\n"), "{shown}");
    if cfg!(target_os = "linux") {
        assert!(shown.contains("\nmildam_process_open_files_limit 100\n"), "{shown}");
    }
    program.stop().await;
    let log = std::fs::read_to_string(&log).unwrap();
    let warned =
        log.lines().any(|line| line.contains("WARN") && line.contains("wanted=10000 connections=36"));
    assert!(warned, "{log}");
}

// REQ S1, M3
#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    const MESSAGES: usize = 200;
    const KILL_AFTER: usize = 60;
    let data = data();
    let mut program = Program::start(data.path()).await;
    let mut alice = program.connect("alice").await;
    let mut bob = program.connect("bob").await;
    for person in [&mut alice, &mut bob] {
        person.sign_up().await.unwrap();
        person.attach().await.unwrap();
    }
    alice.befriend(&mut bob).await;
    let room = alice.create(RoomKind::Direct, &[&bob.account.clone()]).await;

    let sealed: Vec<MessageSend> = (0..MESSAGES).map(|n| alice.seal(&room, &format!("{n}"))).collect();
    let mut ids = Vec::new();
    for command in &sealed[..KILL_AFTER * 2] {
        ids.push(alice.client.send(command).await);
    }
    let mut acknowledged = Vec::new();
    for (n, id) in ids.into_iter().enumerate() {
        if n == KILL_AFTER {
            program.child.kill().await.unwrap();
        }
        match alice.client.answer_if_any(id).await {
            Some(answer) => acknowledged.push(answer.unwrap()),
            None => break,
        }
    }
    assert!(acknowledged.len() >= KILL_AFTER);

    let program = Program::start(data.path()).await;
    let session = alice.client.session.clone();
    alice.client = program.client().await;
    alice.client.session = session;
    alice.attach().await.unwrap();
    // Everything again, as an outbox does: what was acknowledged gets the same answer.
    for (n, command) in sealed.iter().enumerate() {
        let again = alice.client.ask(command).await.unwrap();
        assert_eq!(again.seq, n as u64 + 2);
        if let Some(first) = acknowledged.get(n) {
            assert_eq!(serde_json::to_value(again).unwrap(), *first);
        }
    }
    bob.client = program.client().await;
    bob.log_in().await.unwrap();
    let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(texts(&bob.catch_up(&room).await), expected);
}

// REQ S2
#[tokio::test]
async fn a_polite_stop_answers_what_it_took_and_ends_well() {
    let data = data();
    let mut program = Program::start(data.path()).await;
    let mut alice = program.connect("alice").await;
    alice.sign_up().await.unwrap();
    alice.attach().await.unwrap();
    let room = alice.create(RoomKind::Group, &[]).await;
    let sealed: Vec<MessageSend> = (0..40).map(|n| alice.seal(&room, &format!("{n}"))).collect();
    let mut ids = Vec::new();
    for command in &sealed {
        ids.push(alice.client.send(command).await);
    }
    program.signal("TERM").await;
    let mut stored = 0;
    for id in ids {
        match alice.client.answer_if_any(id).await {
            Some(Ok(_)) => stored += 1,
            Some(Err(refusal)) => assert_eq!(refusal.code, Code::Draining),
            None => (),
        }
    }
    assert_eq!(program.child.wait().await.unwrap().code(), Some(0));

    // What was answered is there, and nothing else: no work was done without an answer.
    let program = Program::start(data.path()).await;
    alice.client = program.client().await;
    alice.log_in().await.unwrap();
    assert_eq!(texts(&alice.catch_up(&room).await).len(), stored);
}

// REQ S2
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let data = data();
    let mut program = Program::start(data.path()).await;
    let mut alice = program.connect("alice").await;
    alice.sign_up().await.unwrap();
    let room = alice.create(RoomKind::Group, &[]).await;
    for _ in 0..10 {
        alice.say(&room, &"x".repeat(80 * 1024)).await.unwrap();
        alice.catch_up(&room).await;
    }
    // Far more than the sockets hold is asked for and never read: finishing takes its time.
    for _ in 0..60 {
        let page = RoomLog { room, after_seq: 0, after_epoch: 0, limit: 200 };
        alice.client.send(&page).await;
    }
    program.signal("INT").await;
    while TcpStream::connect(program.tls).await.is_ok() {
        tokio::task::yield_now().await;
    }
    program.signal("INT").await;
    assert_eq!(program.child.wait().await.unwrap().code(), Some(1));
}
