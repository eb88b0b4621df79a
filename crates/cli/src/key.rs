//! What opens the vault, for as long as it may be asked for again.

use mildam_client::Unlock;
use zeroize::Zeroizing;

use crate::output::Failure;
use crate::passphrase::take_passphrase;

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
        take_passphrase().map(Self).map_err(Failure::Usage)
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
