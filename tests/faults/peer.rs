//! A client that can be told to misbehave: the protocol's own state machines, over a bare socket.

use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use getrandom::SysRng;
use mildam_protocol::ServerLink;
use mildam_protocol::command::{Command, ServerInfo};
use mildam_protocol::frame;
use mildam_protocol::session::{ClientSession, Incoming, client};
use mildam_protocol::set_up::{self, ClientKey, Established, SetUpError};
use mildam_tests::{PATIENCE, Relay};
use rand_core::UnwrapErr;
use serde_json::Value;

/// One key for all peers of this process, as a client has one for all its connections.
fn key() -> Result<ClientKey> {
    static KEY: OnceLock<Result<ClientKey, SetUpError>> = OnceLock::new();
    Ok(KEY.get_or_init(|| ClientKey::generate(&mut rng())).clone()?)
}

/// The system's randomness.
pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A connection over plain TCP.
pub struct Peer {
    stream: TcpStream,
}

/// The frames of a set-up, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Server: who it is, and its key.
    Greeting,
    /// Client: its key.
    Answer,
    /// Server: the session key.
    Delivery,
    /// Client: it has the session key.
    Confirmation,
    /// Server: so has it.
    Success,
}

impl Peer {
    /// Opens a connection to the plain port.
    pub fn connect(relay: &Relay) -> Result<Self> {
        Self::connect_to(relay.plain()?)
    }

    /// Opens a connection to any port.
    pub fn connect_to(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        // Only a bound for failures: nothing that is tested takes as long.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends bytes as they are. The relay may have hung up already: then they are lost.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Sends a payload in a frame.
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.send_bytes(&frame::encode(payload)?);
        Ok(())
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// The next payload, or nothing if the relay has closed the connection.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut header = [0; frame::HEADER];
        match self.stream.read_exact(&mut header) {
            Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => return Ok(None),
            read => read.context("waited for a frame")?,
        }
        let mut payload = vec![0; frame::payload_length(header, frame::SESSION_LIMIT)?];
        self.stream.read_exact(&mut payload)?;
        Ok(Some(payload))
    }

    /// Waits until the relay closes the connection, and tells the statuses that it sent before.
    pub fn statuses_to_the_end(&mut self) -> Result<Vec<String>> {
        let mut statuses = Vec::new();
        while let Some(payload) = self.receive()? {
            let message: Value = serde_json::from_slice(&payload)?;
            let status = message.pointer("/header/status").or_else(|| message.get("status"));
            statuses.push(status.and_then(Value::as_str).context("a status")?.to_owned());
        }
        Ok(statuses)
    }

    /// Plays the whole set-up. `tamper` sees each payload on its way, in both directions.
    pub fn set_up(
        &mut self,
        link: &ServerLink,
        tamper: &mut dyn FnMut(Step, &mut Vec<u8>),
    ) -> Result<Session<'_>> {
        let state = set_up::client::start(*link.fingerprint(), key()?, None);
        let (answer, state) = state.handle(&self.hear(Step::Greeting, tamper)?, &mut rng())?;
        self.say(Step::Answer, answer, tamper)?;
        let (confirmation, state) = state.handle(&self.hear(Step::Delivery, tamper)?, &mut rng())?;
        self.say(Step::Confirmation, confirmation, tamper)?;
        let established = state.handle(&self.hear(Step::Success, tamper)?)?;
        Ok(Session::new(self, established))
    }

    /// Plays the whole set-up as it should be.
    pub fn set_up_well(&mut self, link: &ServerLink) -> Result<Session<'_>> {
        self.set_up(link, &mut |_, _| ())
    }

    fn hear(&mut self, step: Step, tamper: &mut dyn FnMut(Step, &mut Vec<u8>)) -> Result<Vec<u8>> {
        let mut payload = self.receive()?.with_context(|| format!("closed before {step:?}"))?;
        tamper(step, &mut payload);
        Ok(payload)
    }

    fn say(
        &mut self,
        step: Step,
        mut payload: Vec<u8>,
        tamper: &mut dyn FnMut(Step, &mut Vec<u8>),
    ) -> Result<()> {
        tamper(step, &mut payload);
        self.send(&payload)
    }
}

/// A connection whose session key is active.
pub struct Session<'a> {
    peer: &'a mut Peer,
    sealer: client::Sealer,
    opener: client::Opener,
}

impl<'a> Session<'a> {
    fn new(peer: &'a mut Peer, established: Established<ClientSession>) -> Self {
        let (sealer, opener) = established.session.split();
        Self { peer, sealer, opener }
    }

    /// The bare connection.
    pub fn peer(&mut self) -> &mut Peer {
        self.peer
    }

    /// Seals a request, without sending it.
    pub fn seal(&mut self, id: u64, command: &impl Command) -> Result<Vec<u8>> {
        Ok(self.sealer.request(id, None, command, &mut rng())?)
    }

    /// Sends a request and waits for its answer: the data, or the code of the refusal.
    pub fn ask(&mut self, id: u64, command: &impl Command) -> Result<Result<Value, String>> {
        let payload = self.seal(id, command)?;
        self.peer.send(&payload)?;
        self.answer(id)
    }

    /// Waits for the answer to a request that was sent.
    pub fn answer(&mut self, expected: u64) -> Result<Result<Value, String>> {
        let payload = self.peer.receive()?.context("the relay has closed the connection")?;
        match self.opener.open(&payload)? {
            Incoming::Answer { id, outcome } => {
                ensure!(id == expected, "the answer to {id} came instead of that to {expected}");
                Ok(outcome.map_err(|refusal| refusal.code.as_str().to_owned()))
            }
            other => bail!("{other:?} came instead of an answer"),
        }
    }

    /// Asks something harmless: the connection works.
    pub fn check(&mut self) -> Result<()> {
        let info = self.ask(1, &ServerInfo {})?;
        ensure!(info.as_ref().is_ok_and(|info| info.get("protocol").is_some()), "{info:?}");
        Ok(())
    }
}
