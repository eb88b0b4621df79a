//! What one relay, one address, one account or one connection may use.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use crate::limiter::Rate;

/// Each line is a limit, its default, and how a file sets it: the key, what stands there, and how that
/// is read.
macro_rules! limits {
    ($($(#[$docs:meta])* $limit:ident: $kind:ty = $default:expr, set by $key:ident: $written:ty = $read:expr;)*) => {
        /// What one relay, one address, one account or one connection may use.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[$docs])* pub $limit: $kind,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($limit: $default,)* }
            }
        }

        /// The part of a file under `[limits]`.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct LimitSettings {
            $(#[doc = concat!("[`Limits::", stringify!($limit), "`].")] pub $key: Option<$written>,)*
        }

        impl LimitSettings {
            /// These settings, and where they are silent, those.
            #[must_use]
            pub fn or(self, others: Self) -> Self {
                Self { $($key: self.$key.or(others.$key),)* }
            }

            /// All limits, with defaults where the settings are silent.
            #[must_use]
            pub fn into_limits(self) -> Limits {
                let default = Limits::default();
                Limits { $($limit: self.$key.map_or(default.$limit, $read),)* }
            }

            /// On which limits the settings are silent.
            #[cfg(test)]
            pub(crate) fn silent_on(&self) -> Vec<&'static str> {
                let mut silent = Vec::new();
                $(if self.$key.is_none() { silent.push(stringify!($key)); })*
                silent
            }
        }
    };
}

limits! {
    /// Connections at a time; more are turned away.
    connections: usize = 10_000, set by connections: NonZeroU32 = positive;
    /// How long TLS and set-up may take together.
    set_up: Duration = mildam_protocol::set_up::TIME_LIMIT, set by set_up_seconds: NonZeroU32 = seconds;
    /// How long a session lasts without being used.
    session: Duration = days(30), set by session_days: NonZeroU32 = |value| days(value.get());
    /// Friends of an account.
    friends: u64 = 2_000, set by friends: u32 = u64::from;
    /// Friend requests of an account that wait, in each direction.
    waiting_requests: usize = 100, set by waiting_requests: u32 = size;
    /// Rooms of an account.
    rooms: u64 = 1_000, set by rooms: u32 = u64::from;
    /// Prekeys that a device may give in a day.
    prekeys_a_day: u64 = 24, set by prekeys_a_day: u32 = u64::from;
    /// Device lists that an account may make in a day.
    lists_a_day: u64 = 24, set by lists_a_day: u32 = u64::from;
    /// Pushes that wait for a slow connection before it is told to catch up instead.
    pushes: usize = 256, set by pushes: u32 = size;

    /// Connections of an address at a time.
    connections_an_address: usize = 256, set by connections_an_address: NonZeroU32 = positive;
    /// New connections of an address.
    new_connections: Rate = Rate::new(200, 20, 1), set by new_connections: Rate = as_written;
    /// Set-ups that are under way at a time.
    set_ups: usize = 2_000, set by set_ups: NonZeroU32 = positive;
    /// Set-ups of an address that are under way at a time.
    set_ups_an_address: usize = 32, set by set_ups_an_address: NonZeroU32 = positive;
    /// Requests from an address on connections that belong to no account.
    stranger_requests: Rate = Rate::new(100, 10, 1), set by stranger_requests: Rate = as_written;
    /// New accounts from an address.
    sign_ups: Rate = Rate::new(50, 1, 10), set by sign_ups: Rate = as_written;
    /// Passwords and words that are tried for an account from an address.
    guesses: Rate = Rate::new(10, 1, 30), set by guesses: Rate = as_written;
    /// Passwords and words that are tried for an account from anywhere.
    account_guesses: Rate = Rate::new(100, 1, 10), set by account_guesses: Rate = as_written;
    /// Requests of an account; and of an address, on connections that belong to no account.
    requests: Rate = Rate::new(500, 100, 1), set by requests: Rate = as_written;
    /// Requests of an account for keys.
    look_ups: Rate = Rate::new(200, 5, 1), set by look_ups: Rate = as_written;
    /// Messages of an account.
    messages: Rate = Rate::new(200, 20, 1), set by messages: Rate = as_written;
    /// Friend requests of an account.
    friend_requests: Rate = Rate::new(20, 1, 60), set by friend_requests: Rate = as_written;
    /// Rooms that an account makes.
    new_rooms: Rate = Rate::new(20, 1, 60), set by new_rooms: Rate = as_written;
    /// Changes of rooms that an account makes: who is in, and as what.
    room_changes: Rate = Rate::new(100, 1, 1), set by room_changes: Rate = as_written;
    /// Receipts of an account.
    receipts: Rate = Rate::new(2_000, 50, 1), set by receipts: Rate = as_written;
    /// Bytes that are left free on the disk, on a small one a twentieth of it: below that only log-out, the
    /// ending of sessions and recovery are stored.
    free_space: u64 = 256 << 20, set by free_space_mib: u32 = mebibytes;
    /// How often others are told that an account is writing.
    typing: Rate = Rate::new(5, 1, 1), set by typing: Rate = as_written;
    /// How often an account hides or shows whether it is online.
    presence_changes: Rate = Rate::new(10, 1, 5), set by presence_changes: Rate = as_written;
    /// Bytes that are read from an account; and from an address, on connections that belong to no account.
    bytes: Rate = Rate::new(4 << 20, 1 << 20, 1), set by bytes: Rate = as_written;
    /// Bytes that an account is told; and an address, on connections that belong to no account. Who is told
    /// more is listened to later.
    bytes_told: Rate = Rate::new(32 << 20, 8 << 20, 1), set by bytes_told: Rate = as_written;
    /// Bytes to and from an address, for all accounts there together.
    address_bytes: Rate = Rate::new(128 << 20, 32 << 20, 1), set by address_bytes: Rate = as_written;
    /// How long both sides of a connection that belongs to an account may be silent.
    silence: Duration = Duration::from_secs(90), set by silence_seconds: NonZeroU32 = seconds;
    /// How long both sides of any other connection may be silent.
    stranger_silence: Duration = Duration::from_secs(60), set by stranger_silence_seconds: NonZeroU32 = seconds;
    /// How long anything may take to arrive or to be taken, beside what its length allows it.
    frame: Duration = Duration::from_secs(30), set by frame_seconds: NonZeroU32 = seconds;
    /// How much time a length allows: a second for so many bytes.
    frame_bytes_a_second: u32 = 16 * 1024, set by frame_bytes_a_second: NonZeroU32 = NonZeroU32::get;
}

impl Limits {
    /// When a session that is used at `now` ends, both in milliseconds since 1970 (UTC).
    #[must_use]
    pub fn session_end(&self, now: u64) -> u64 {
        now.saturating_add(u64::try_from(self.session.as_millis()).unwrap_or(u64::MAX))
    }
}

const fn as_written(rate: Rate) -> Rate {
    rate
}

fn mebibytes(value: u32) -> u64 {
    u64::from(value) << 20
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn positive(value: NonZeroU32) -> usize {
    size(value.get())
}

fn seconds(value: NonZeroU32) -> Duration {
    Duration::from_secs(value.get().into())
}

fn days(value: u32) -> Duration {
    Duration::from_secs(u64::from(value).saturating_mul(24 * 60 * 60))
}
