//! The client's side of a session.

use rand_core::CryptoRng;

use super::cipher::Direction;
use super::envelope::{Answer, REQUEST_LABEL, RequestOut, Status};
use super::{Refusal, SessionError, read_json};
use crate::code::Code;
use crate::command::{Command, SessionId};
use crate::event::Event;
use crate::set_up::Keys;

/// A session as the client holds it.
#[derive(Debug)]
pub struct ClientSession {
    sealer: Sealer,
    opener: Opener,
}

impl ClientSession {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self {
            sealer: Sealer(Direction::new(&keys.client_to_server)),
            opener: Opener(Direction::new(&keys.server_to_client)),
        }
    }

    /// The two directions, for the tasks that write and read.
    #[must_use]
    pub fn split(self) -> (Sealer, Opener) {
        (self.sealer, self.opener)
    }
}

/// Writes requests.
#[derive(Debug)]
pub struct Sealer(pub(super) Direction);

impl Sealer {
    /// Writes a request. Payloads must be sent in the order in which they were written.
    ///
    /// # Errors
    /// [`SessionError::UsedUp`] or [`SessionError::Local`].
    pub fn request<C: Command>(
        &mut self,
        id: u64,
        session: Option<&SessionId>,
        command: &C,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SessionError> {
        let request = RequestOut { command: C::NAME, id, session, data: command };
        let plain = serde_json::to_vec(&request).map_err(|_| SessionError::Local)?;
        let aad = self.0.aad(REQUEST_LABEL);
        self.0.seal(&plain, &aad, rng)
    }
}

/// What comes from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The answer to a request.
    Answer {
        /// The request's id.
        id: u64,
        /// `data`, or why there is none.
        outcome: Result<serde_json::Value, Refusal>,
    },
    /// Something the server tells by itself.
    Push(Box<Event>),
    /// A push that this version does not know; to be ignored.
    UnknownPush,
}

impl Incoming {
    /// Reads the text of an answer that is open, or of a push, which has no id.
    ///
    /// # Errors
    /// [`SessionError::Malformed`] for what is no JSON or has a key twice.
    pub fn read(id: Option<u64>, plain: &[u8]) -> Result<Self, SessionError> {
        let value = read_json(plain)?;
        Ok(match id {
            Some(id) => Self::Answer { id, outcome: Ok(value) },
            None => {
                serde_json::from_value(value).map_or(Self::UnknownPush, |event| Self::Push(Box::new(event)))
            }
        })
    }
}

/// Reads answers and pushes.
#[derive(Debug)]
pub struct Opener(pub(super) Direction);

impl Opener {
    /// Reads the next payload.
    ///
    /// # Errors
    /// [`SessionError`]: the connection must be closed.
    pub fn open(&mut self, payload: &[u8]) -> Result<Incoming, SessionError> {
        let answer: Answer = serde_json::from_slice(payload).map_err(|_| SessionError::Malformed)?;
        let aad = answer.aad(&self.0);
        let Answer { status, id, code, message, retry_after, data, proof } = answer;
        match (status, data, proof) {
            (Status::Success, Some(data), None) => {
                let plain = self.0.open(data.0, &aad)?;
                Incoming::read(id, &plain)
            }
            (Status::Invalid | Status::Fail, None, Some(proof)) => {
                if !self.0.open(proof.0, &aad)?.is_empty() {
                    return Err(SessionError::Malformed);
                }
                let id = id.ok_or(SessionError::Malformed)?;
                let code = serde_json::from_value(serde_json::Value::from(code)).unwrap_or(Code::Unknown);
                let refusal = Refusal { code, message: message.unwrap_or_default(), retry_after };
                Ok(Incoming::Answer { id, outcome: Err(refusal) })
            }
            _ => Err(SessionError::Malformed),
        }
    }
}
