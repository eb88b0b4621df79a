//! Passwords: Argon2id hashes, made and checked where waiting hurts nobody else.

use std::sync::Arc;

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Why a password could not be worked on.
#[derive(Debug, thiserror::Error)]
#[error("a password could not be hashed: {0}")]
pub struct PasswordError(String);

/// Hashes and checks passwords with Argon2id (19 MiB, 2 passes, 1 lane), at most as many at a time
/// as there are processors: the memory that this takes is bounded.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// The hash of a password that nobody knows: checking against it takes the time that a real
    /// check takes.
    decoy: Arc<str>,
}

impl Passwords {
    /// Begins; makes the decoy.
    ///
    /// # Errors
    /// [`PasswordError`] if hashing does not work on this machine.
    pub async fn new() -> Result<Self, PasswordError> {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let begun = Self { permits: Arc::new(Semaphore::new(at_once)), decoy: "".into() };
        let mut unknown = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *unknown).map_err(|error| PasswordError(error.to_string()))?;
        let unknown = Zeroizing::new(data_encoding::BASE64.encode(&*unknown));
        let decoy = begun.hash(unknown).await?.into();
        Ok(Self { decoy, ..begun })
    }

    /// Hashes a password under a fresh salt; gives a PHC string.
    ///
    /// # Errors
    /// [`PasswordError`] if memory or randomness fail.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String, PasswordError> {
        self.on_a_thread(move || {
            Argon2::default()
                .hash_password(password.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| PasswordError(error.to_string()))
        })
        .await?
    }

    /// Checks a password. Without a hash (there is no such account) it takes the same time and is
    /// always wrong.
    ///
    /// # Errors
    /// [`PasswordError`] if the thread fails.
    pub async fn check(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        let fits = self
            .on_a_thread(move || {
                Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok()
            })
            .await?;
        Ok(known && fits)
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| PasswordError(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if the one who asked goes away meanwhile.
            let _permit = permit;
            work()
        })
        .await
        .map_err(|error| PasswordError(error.to_string()))
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // REQ A3
    #[tokio::test]
    async fn a_hash_fits_its_password_only() {
        let passwords = Passwords::new().await.unwrap();
        let password = |text: &str| Zeroizing::new(text.to_owned());
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let right = passwords.check(password("correct horse"), Some(hash.clone()));
        assert!(right.await.unwrap());
        assert!(!passwords.check(password("wrong"), Some(hash)).await.unwrap());
        assert!(!passwords.check(password("correct horse"), None).await.unwrap());
    }
}
