//! The passphrase that a program is started with, for scripts and demonstrations.

use zeroize::Zeroizing;

const VARIABLE: &str = "MILDAM_PASSPHRASE";

/// Takes the passphrase out of the environment, so that no program inherits it that this one starts, such as
/// those of a web view, and nobody finds it in `/proc`.
///
/// To be called in `main` before anything else: no other thread may run yet.
///
/// # Errors
/// In words, if the variable is set but is no passphrase. That is an accident, of a script or a compose file.
pub fn take_passphrase() -> Result<Option<Zeroizing<String>>, String> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    erase();
    match value.into_string().map(Zeroizing::new) {
        Ok(passphrase) if passphrase.trim().is_empty() => {
            Err(format!("{VARIABLE} is set, but the passphrase in it is empty"))
        }
        Ok(passphrase) => Ok(Some(passphrase)),
        Err(_) => Err(format!("the passphrase in {VARIABLE} is not text in UTF-8")),
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
