//! The JSON of the set-up, with the seed's field names.

use mildam_records::bytes::Bytes;
use mildam_records::id::Hash;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::SetUpError;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Connecting,
    Success,
    Fail,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) status: Status,
    pub(super) server_info: String,
    pub(super) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerGreeting {
    pub(super) header: Header,
    #[serde(rename = "publicKey")]
    pub(super) public_key: Bytes,
    pub(super) protocol: u64,
    pub(super) nonce: Hash,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientAnswer {
    #[serde(rename = "publicKey")]
    pub(super) public_key: Bytes,
    pub(super) nonce: Hash,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionKeyDelivery {
    pub(super) header: Header,
    #[serde(rename = "sessionKey")]
    pub(super) session_key: Bytes,
    pub(super) signature: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientConfirmation {
    pub(super) status: ClientStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) confirm: Option<Hash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientStatus {
    SessionKeyReceived,
    Fail,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerConfirmation {
    pub(super) header: Header,
    pub(super) confirm: Hash,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    header: Header,
}

pub(super) fn write(message: &impl Serialize) -> Result<Vec<u8>, SetUpError> {
    serde_json::to_vec(message).map_err(|_| SetUpError::Local("serialisation"))
}

/// Reads a message of the server's. A failure that the server tells is its own error, so that the
/// person sees the server's reason and not "malformed".
pub(super) fn read_server<M: DeserializeOwned>(payload: &[u8], what: &'static str) -> Result<M, SetUpError> {
    if let Ok(failure) = serde_json::from_slice::<Failure>(payload)
        && failure.header.status == Status::Fail
    {
        let Header { message, retry_after, .. } = failure.header;
        return Err(SetUpError::Refused { message, retry_after });
    }
    read(payload, what)
}

pub(super) fn read<M: DeserializeOwned>(payload: &[u8], what: &'static str) -> Result<M, SetUpError> {
    serde_json::from_slice(payload).map_err(|_| SetUpError::Malformed(what))
}

pub(super) fn connecting(server_info: &str, message: &str) -> Header {
    Header {
        status: Status::Connecting,
        server_info: server_info.to_owned(),
        message: message.to_owned(),
        retry_after: None,
    }
}

pub(super) fn failed(message: &str, retry_after: Option<u32>) -> Vec<u8> {
    let header =
        Header { status: Status::Fail, server_info: String::new(), message: message.to_owned(), retry_after };
    // Three strings and an enum always serialise; an empty payload would be refused as a frame.
    serde_json::to_vec(&Failure { header }).unwrap_or_default()
}

pub(super) fn client_failed() -> Vec<u8> {
    serde_json::to_vec(&ClientConfirmation { status: ClientStatus::Fail, confirm: None }).unwrap_or_default()
}

/// What a server sends when [`super::TIME_LIMIT`] is over.
#[must_use]
pub fn timed_out() -> Vec<u8> {
    failed("the set-up took longer than 10 seconds", None)
}

/// What a server sends, in place of its greeting, to a peer that it does not serve now.
#[must_use]
pub fn turned_away(message: &str, retry_after: u32) -> Vec<u8> {
    failed(message, Some(retry_after))
}
