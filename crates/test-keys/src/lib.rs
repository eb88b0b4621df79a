//! What makes tests quick: RSA keys of ready-made primes, and passwords that are hardly stretched.
//!
//! Two things switch it on together: the feature `testing` of the crates that make keys, without which
//! they do not know this crate, and the variable `MILDAM_TEST_KEYS`, the path of a file that deals out
//! the primes. A program built for tests that runs without the variable makes real keys. With the
//! feature those crates do not compile without debug assertions, so no release can have it.

use std::env;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use rsa::BoxedUint;

/// The variable that names the file.
pub const QUICK_KEYS: &str = "MILDAM_TEST_KEYS";

/// 128 primes of 1,536 bits, big-endian. Each is above `2^1535 * sqrt(2)`, so that the product of any
/// two has 3,072 bits, and none is 1 modulo 65537.
static PRIMES: &[u8] = include_bytes!("primes.bin");
const PRIME_BYTES: usize = 192;

/// The variable that, set to `real`, lets passwords be stretched as ever: for tests with an
/// implementation that knows nothing of these.
pub const QUICK_PASSWORDS: &str = "MILDAM_TEST_PASSWORDS";

/// Whether keys are to be quick to make instead of secret.
#[must_use]
pub fn quick_keys() -> bool {
    env::var_os(QUICK_KEYS).is_some()
}

/// Whether passwords and passphrases are to be stretched hardly.
#[must_use]
pub fn quick_passwords() -> bool {
    quick_keys() && env::var_os(QUICK_PASSWORDS).is_none_or(|how| how != "real")
}

/// Two primes for an RSA-3072 key; `None` unless [`quick_keys`].
///
/// # Errors
/// If the file cannot be written.
pub fn primes() -> io::Result<Option<(BoxedUint, BoxedUint)>> {
    let Some(file) = env::var_os(QUICK_KEYS).map(PathBuf::from) else { return Ok(None) };
    let (first, second) = pair(ticket(&file)?);
    Ok(prime(first).zip(prime(second)))
}

/// A number that nobody else gets, among all processes that share the file. Each takes one by
/// appending a byte: the place of the byte is the number.
fn ticket(file: &Path) -> io::Result<u64> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options().append(true).create(true).open(file)?;
    file.write_all(b".")?;
    file.stream_position()
}

/// The pair with this number: all 8,128 come before one comes again.
fn pair(number: u64) -> (usize, usize) {
    let primes = PRIMES.len() / PRIME_BYTES;
    let pairs = primes * (primes - 1) / 2;
    let number = usize::try_from(number).unwrap_or_default() % pairs;
    // Neighbours that are `1 + turn` apart on a circle: each turn but the last half gives every prime once.
    let (turn, first) = (number / primes, number % primes);
    (first, (first + 1 + turn) % primes)
}

fn prime(index: usize) -> Option<BoxedUint> {
    let bytes = PRIMES.get(index * PRIME_BYTES..)?.get(..PRIME_BYTES)?;
    Some(BoxedUint::from_be_slice_vartime(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_of_8128_keys_have_the_same_primes() {
        let sorted = |(a, b): (usize, usize)| (a.min(b), a.max(b));
        let pairs: BTreeSet<_> = (0..8_128).map(|number| sorted(pair(number))).collect();
        assert_eq!(pairs.len(), 8_128);
        assert!(pairs.iter().all(|(first, second)| first != second));
        assert_eq!(pair(8_128), pair(0));
    }

    #[test]
    fn any_two_primes_make_a_modulus_of_3072_bits() {
        // 0xB6 / 0x100 is above the square root of one half.
        assert!(PRIMES.chunks(PRIME_BYTES).all(|prime| prime[0] >= 0xB6 && prime[PRIME_BYTES - 1] % 2 == 1));
        assert_eq!(PRIMES.len(), 128 * PRIME_BYTES);
    }

    #[test]
    fn every_ticket_is_another_number() {
        let file = env::temp_dir().join(format!("mildam-tickets-{}", std::process::id()));
        let take = || (0..50).map(|_| ticket(&file).unwrap()).collect::<Vec<_>>();
        let mut numbers = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            numbers.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
        });
        fs::remove_file(&file).unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    }
}
