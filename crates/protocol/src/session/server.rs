//! The server's side of a session.

use rand_core::CryptoRng;
use serde_json::value::RawValue;

use super::cipher::Direction;
use super::envelope::{Answer, Id, REQUEST_LABEL, RequestIn, Status};
use super::{Refusal, SessionError};
use crate::code::Code;
use crate::command::{Kind, Request, SessionId};
use crate::set_up::Keys;

/// A session as the server holds it.
#[derive(Debug)]
pub struct ServerSession {
    opener: Opener,
    sealer: Sealer,
}

impl ServerSession {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self {
            opener: Opener(Direction::new(&keys.client_to_server)),
            sealer: Sealer(Direction::new(&keys.server_to_client)),
        }
    }

    /// The two directions, for the tasks that read and write.
    #[must_use]
    pub fn split(self) -> (Opener, Sealer) {
        (self.opener, self.sealer)
    }
}

/// A request as it came: who asks for which command. What it asks in particular is read last, since that is
/// what can be much.
#[derive(Debug)]
pub struct IncomingRequest<'a> {
    /// What the answer must carry.
    pub id: u64,
    /// The session id, if one was sent.
    pub session: Option<SessionId>,
    /// The command, or why it cannot be one: the connection lives on.
    pub kind: Result<Kind, Refusal>,
    data: &'a str,
}

impl<'a> IncomingRequest<'a> {
    /// Reads the text of a request that is open.
    ///
    /// # Errors
    /// [`SessionError::Malformed`] for what is no JSON, or bears no id.
    pub fn read(plain: &'a [u8]) -> Result<Self, SessionError> {
        if let Ok(RequestIn { command, id, session, data }) = serde_json::from_slice(plain) {
            let unknown = || Refusal::new(Code::UnknownCommand, "this relay knows no such command");
            let kind = Kind::of(&command).ok_or_else(unknown);
            return Ok(Self { id, session, kind, data: data.map_or("null", RawValue::get) });
        }
        let Id { id } = serde_json::from_slice(plain).map_err(|_| SessionError::Malformed)?;
        let fields = "a request has the fields command, id, session and data, each once, and no others";
        Ok(Self { id, session: None, kind: Err(Refusal::new(Code::Malformed, fields)), data: "null" })
    }

    /// Reads what it asks.
    ///
    /// # Errors
    /// [`Code::UnknownCommand`] or [`Code::Malformed`]: the connection lives on.
    pub fn request(self) -> Result<Request, Refusal> {
        let malformed = "the data is not of the form that this command takes; see docs/protocol.md";
        Request::read(self.kind?, self.data).map_err(|_| Refusal::new(Code::Malformed, malformed))
    }
}

/// Reads requests.
#[derive(Debug)]
pub struct Opener(pub(super) Direction);

impl Opener {
    /// Opens the next payload: the text of an [`IncomingRequest`].
    ///
    /// # Errors
    /// [`SessionError`]: the connection must be closed.
    pub fn open(&mut self, payload: Vec<u8>) -> Result<Vec<u8>, SessionError> {
        let aad = self.0.aad(REQUEST_LABEL);
        self.0.open(payload, &aad)
    }
}

/// Writes answers and pushes.
#[derive(Debug)]
pub struct Sealer(pub(super) Direction);

impl Sealer {
    /// Writes an answer: `data` as JSON, or a refusal. Payloads must be sent in the order in which they were written.
    ///
    /// # Errors
    /// [`SessionError::UsedUp`] or [`SessionError::Local`].
    pub fn answer(
        &mut self,
        id: u64,
        outcome: &Result<String, Refusal>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SessionError> {
        match outcome {
            Ok(data) => self.success(Some(id), data.as_bytes(), rng),
            Err(refusal) => {
                let mut answer = Answer {
                    status: Status::of(refusal.code),
                    id: Some(id),
                    code: Some(refusal.code.as_str().to_owned()),
                    message: Some(refusal.message.clone()),
                    retry_after: refusal.retry_after,
                    data: None,
                    proof: None,
                };
                let proof = self.0.seal(&[], &answer.aad(&self.0), rng)?;
                answer.proof = Some(proof.into());
                serde_json::to_vec(&answer).map_err(|_| SessionError::Local)
            }
        }
    }

    /// Writes a push: an event that was serialised once for everybody who gets it.
    ///
    /// # Errors
    /// [`SessionError::UsedUp`] or [`SessionError::Local`].
    pub fn push(&mut self, event_json: &str, rng: &mut impl CryptoRng) -> Result<Vec<u8>, SessionError> {
        self.success(None, event_json.as_bytes(), rng)
    }

    fn success(
        &mut self,
        id: Option<u64>,
        plain: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SessionError> {
        let mut answer = Answer {
            status: Status::Success,
            id,
            code: None,
            message: None,
            retry_after: None,
            data: None,
            proof: None,
        };
        let data = self.0.seal(plain, &answer.aad(&self.0), rng)?;
        answer.data = Some(data.into());
        serde_json::to_vec(&answer).map_err(|_| SessionError::Local)
    }
}
