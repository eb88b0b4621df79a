//! The JSON of requests and answers, with the seed's field names.

use std::borrow::Cow;

use mildam_records::bytes::Bytes;
use mildam_records::canonical::Canonical;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::cipher::Direction;
use crate::code::{Code, Failure};
use crate::command::SessionId;

pub(super) const REQUEST_LABEL: &str = "mildam/request/v1";
const ANSWER_LABEL: &str = "mildam/answer/v1";

/// A request that a client writes.
#[derive(Serialize)]
pub(super) struct RequestOut<'a, C> {
    pub(super) command: &'a str,
    pub(super) id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<&'a SessionId>,
    pub(super) data: &'a C,
}

/// A request that a server reads. What it asks is left as it is until it is known how much that may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestIn<'a> {
    #[serde(borrow)]
    pub(super) command: Cow<'a, str>,
    pub(super) id: u64,
    pub(super) session: Option<SessionId>,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

/// What is answered where a request is none.
#[derive(Deserialize)]
pub(super) struct Id {
    pub(super) id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Success,
    Invalid,
    Fail,
}

impl Status {
    pub(super) const fn of(code: Code) -> Self {
        match code.failure() {
            Failure::Invalid => Self::Invalid,
            Failure::Fail => Self::Fail,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Invalid => "invalid",
            Self::Fail => "fail",
        }
    }
}

/// An answer or a push.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proof: Option<Bytes>,
}

impl Answer {
    pub(super) fn aad(&self, direction: &Direction) -> Canonical {
        let id = self.id.map(u64::to_be_bytes);
        let retry_after = self.retry_after.map(|seconds| u64::from(seconds).to_be_bytes());
        direction
            .aad(ANSWER_LABEL)
            .text(self.status.text())
            .optional(id.as_ref().map(<[u8; 8]>::as_slice))
            .optional(self.code.as_deref().map(str::as_bytes))
            .optional(self.message.as_deref().map(str::as_bytes))
            .optional(retry_after.as_ref().map(<[u8; 8]>::as_slice))
    }
}
