//! The rules that items of a log can break, and what breaking them does to the room.

use serde::{Deserialize, Serialize};

/// A rule, named by what breaks it. The names are stable: people's programs switch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    BadCommitment,
    BadProfile,
    BadSignature,
    BadStart,
    BeforeDevice,
    ChainBroken,
    Closed,
    DoesNotOpen,
    EpochBroken,
    Forbidden,
    IdentityChanged,
    JumpTooFar,
    LogMismatch,
    MalformedContent,
    NeedsNewerVersion,
    NoKey,
    NotMember,
    OtherRoom,
    Replayed,
    Stale,
    UnknownDevice,
    UnknownKeys,
    WrongList,
    WrongRecipients,
}

impl Rule {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::BadCommitment => "bad_commitment",
            Self::BadProfile => "bad_profile",
            Self::BadSignature => "bad_signature",
            Self::BadStart => "bad_start",
            Self::BeforeDevice => "before_device",
            Self::ChainBroken => "chain_broken",
            Self::Closed => "closed",
            Self::DoesNotOpen => "does_not_open",
            Self::EpochBroken => "epoch_broken",
            Self::Forbidden => "forbidden",
            Self::IdentityChanged => "identity_changed",
            Self::JumpTooFar => "jump_too_far",
            Self::LogMismatch => "log_mismatch",
            Self::MalformedContent => "malformed_content",
            Self::NeedsNewerVersion => "needs_newer_version",
            Self::NoKey => "no_key",
            Self::NotMember => "not_member",
            Self::OtherRoom => "other_room",
            Self::Replayed => "replayed",
            Self::Stale => "stale",
            Self::UnknownDevice => "unknown_device",
            Self::UnknownKeys => "unknown_keys",
            Self::WrongList => "wrong_list",
            Self::WrongRecipients => "wrong_recipients",
        }
    }
}

/// What kind of item broke a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Change,
    Message,
    Epoch,
}

/// Why nothing is sent in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    pub(super) rule: Rule,
    /// Whether the next good epoch ends it: then everybody is on one key again. A fork of the log
    /// or of the chain of changes does not heal by that, nor does a false beginning.
    pub(super) heals: bool,
}

impl Block {
    /// What a broken rule does to the room. A bad message is one person's fault, unless it shows
    /// another log; after a bad change or epoch, what is true of the room is no longer known. A
    /// key that does not open, or not to what its announcer had signed, is answered with a new epoch:
    /// no honest relay can see it, and a member must not be able to end a room by it.
    pub(super) fn by(rule: Rule, kind: ItemKind) -> Option<Self> {
        let blocks = match kind {
            ItemKind::Change => true,
            ItemKind::Message => rule == Rule::LogMismatch,
            ItemKind::Epoch => !matches!(rule, Rule::NoKey | Rule::BadCommitment | Rule::BadProfile),
        };
        let heals = kind == ItemKind::Epoch
            && !matches!(rule, Rule::LogMismatch | Rule::IdentityChanged | Rule::BadStart);
        blocks.then_some(Self { rule, heals })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_name_is_the_code() {
        for rule in [Rule::BadCommitment, Rule::LogMismatch, Rule::NeedsNewerVersion, Rule::WrongRecipients] {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.code());
        }
    }
}
