//! What opens the vault, for as long as it may be asked for again.

use mildam_client::Unlock;
use zeroize::Zeroizing;

use crate::output::Failure;

const VARIABLE: &str = "MILDAM_PASSPHRASE";

/// A passphrase, or none for the system's keyring.
#[derive(Clone)]
pub(crate) struct Key(Option<Zeroizing<String>>);

impl Key {
    /// As this process was given it. A variable that is set but says nothing is an accident, of a script
    /// or a compose file, and is told: the keyring is taken where there is no variable, and nothing is
    /// ever left open.
    ///
    /// The variable is gone afterwards, so that no program inherits it that this one starts. To be called in
    /// `main` before anything else: no other thread may run yet.
    pub(crate) fn of_process() -> Result<Self, Failure> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Self::new(None)) };
        erase();
        match value.into_string().map(Zeroizing::new) {
            Ok(passphrase) if passphrase.trim().is_empty() => {
                Err(Failure::Usage(format!("{VARIABLE} is set, but the passphrase in it is empty")))
            }
            Ok(passphrase) => Ok(Self(Some(passphrase))),
            Err(_) => Err(Failure::Usage(format!("the passphrase in {VARIABLE} is not text in UTF-8"))),
        }
    }

    pub(crate) fn new(passphrase: Option<String>) -> Self {
        Self(passphrase.map(Zeroizing::new))
    }

    pub(crate) fn passphrase(&self) -> Option<&str> {
        self.0.as_ref().map(|passphrase| passphrase.as_str())
    }

    pub(crate) fn unlock(&self) -> Unlock {
        match &self.0 {
            Some(passphrase) => Unlock::Passphrase(passphrase.clone()),
            None => Unlock::Keyring,
        }
    }
}

/// Removes the variable. On Unix what it said is overwritten first: a variable that is removed stays in the
/// memory in which the process was given it, and that is what `/proc/PID/environ` shows.
#[allow(unsafe_code)]
fn erase() {
    #[cfg(unix)]
    {
        use std::ffi::{CStr, c_char};
        unsafe extern "C" {
            fn getenv(name: *const c_char) -> *mut c_char;
        }
        // SAFETY: the name ends with a zero byte. What comes back is null, or a string of the environment,
        // which is memory of this process that can be written. No other thread runs yet that could read or
        // change it, and only bytes before its end are written.
        unsafe {
            let value = getenv(c"MILDAM_PASSPHRASE".as_ptr());
            if !value.is_null() {
                let length = CStr::from_ptr(value).to_bytes().len();
                zeroize::Zeroize::zeroize(std::slice::from_raw_parts_mut(value.cast::<u8>(), length));
            }
        }
    }
    // SAFETY: no other thread runs yet that could read or change the environment.
    unsafe { std::env::remove_var(VARIABLE) }
}
