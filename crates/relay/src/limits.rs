//! What one relay, one address, one account or one connection may use.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

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
    /// Connections at a time; more wait to be accepted.
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
}

impl Limits {
    /// When a session that is used at `now` ends, both in milliseconds since 1970 (UTC).
    #[must_use]
    pub fn session_end(&self, now: u64) -> u64 {
        now.saturating_add(u64::try_from(self.session.as_millis()).unwrap_or(u64::MAX))
    }
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
