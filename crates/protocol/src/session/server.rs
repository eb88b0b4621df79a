//! The server's side of a session.

use rand_core::CryptoRng;

use super::cipher::Direction;
use super::envelope::{Answer, REQUEST_LABEL, RequestIn, Status};
use super::{Refusal, SessionError, read_json};
use crate::code::Code;
use crate::command::{Request, RequestError, SessionId};
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

/// A request as it came.
#[derive(Debug)]
pub struct IncomingRequest {
    /// What the answer must carry.
    pub id: u64,
    /// The session id, if one was sent.
    pub session: Option<SessionId>,
    /// The command, or why it cannot be one: the connection lives on.
    pub request: Result<Request, Refusal>,
}

impl IncomingRequest {
    /// Reads the text of a request that is open.
    ///
    /// # Errors
    /// [`SessionError::Malformed`] for what is no JSON, has a key twice, or bears no id.
    pub fn read(plain: &[u8]) -> Result<Self, SessionError> {
        let value: serde_json::Value = read_json(plain)?;
        let id = value.get("id").and_then(serde_json::Value::as_u64).ok_or(SessionError::Malformed)?;
        let read: Result<RequestIn, _> = serde_json::from_value(value);
        Ok(match read {
            Ok(RequestIn { command, id, session, data }) => {
                let request = Request::read(&command, data).map_err(|error| match error {
                    RequestError::UnknownCommand => {
                        Refusal::new(Code::UnknownCommand, "this relay knows no such command")
                    }
                    RequestError::Malformed(_) => Refusal::new(
                        Code::Malformed,
                        "the data is not of the form that this command takes; see docs/protocol.md",
                    ),
                });
                Self { id, session, request }
            }
            Err(_) => Self {
                id,
                session: None,
                request: Err(Refusal::new(
                    Code::Malformed,
                    "a request has the fields command, id, session and data, and no others",
                )),
            },
        })
    }
}

/// Reads requests.
#[derive(Debug)]
pub struct Opener(pub(super) Direction);

impl Opener {
    /// Reads the next payload.
    ///
    /// # Errors
    /// [`SessionError`]: the connection must be closed. A request that opens but has an unknown
    /// command or unusable data is no such error; one without an id cannot be answered and is.
    pub fn open(&mut self, payload: &[u8]) -> Result<IncomingRequest, SessionError> {
        let aad = self.0.aad(REQUEST_LABEL);
        let plain = self.0.open(payload, &aad)?;
        IncomingRequest::read(&plain)
    }
}

/// Writes answers and pushes.
#[derive(Debug)]
pub struct Sealer(pub(super) Direction);

impl Sealer {
    /// Writes an answer. Payloads must be sent in the order in which they were written.
    ///
    /// # Errors
    /// [`SessionError::UsedUp`] or [`SessionError::Local`].
    pub fn answer(
        &mut self,
        id: u64,
        outcome: &Result<serde_json::Value, Refusal>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SessionError> {
        match outcome {
            Ok(value) => {
                let plain = serde_json::to_vec(value).map_err(|_| SessionError::Local)?;
                self.success(Some(id), &plain, rng)
            }
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
