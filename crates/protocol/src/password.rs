//! The password, which the relay never sees: OPAQUE (RFC 9807).
//!
//! OPAQUE-3DH with ristretto255 and SHA-512 for the OPRF and the key exchange, HKDF and HMAC with
//! SHA-512, and Argon2id (version 0x13, 64 MiB, 3 passes, 1 lane, 16 zero bytes of salt, 64 bytes
//! out) as the key stretching function, which the client computes. The client identity is the
//! account id, the server identity is the server's OPAQUE key, and the context of a login is
//! `T("mildam/opaque/v1", transcript)` of the connection's set-up: a login is worth nothing on
//! another connection. Passwords are compared in Unicode NFC.

use mildam_records::Canonical;
use mildam_records::bytes::Bytes;
use mildam_records::id::{AccountId, Hash};
use opaque_ke::argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::errors::ProtocolError;
use opaque_ke::rand;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest, CredentialResponse,
    Identifiers, RegistrationRequest, RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh,
};
use opaque_sha2::Sha512;
use rand_core::CryptoRng;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Bytes of a [`Registration`]'s request.
pub const REGISTRATION_REQUEST: usize = 32;
/// Bytes of the relay's answer to it.
pub const REGISTRATION_RESPONSE: usize = 64;
/// Bytes of what the relay keeps of a password: the RFC's registration record.
pub const PASSWORD_RECORD: usize = 192;
/// Bytes of a [`Login`]'s request, KE1.
pub const LOGIN_REQUEST: usize = 96;
/// Bytes of the relay's answer to it, KE2.
pub const LOGIN_RESPONSE: usize = 320;
/// Bytes of a login's last word, KE3.
pub const LOGIN_FINISH: usize = 64;

/// Bytes of [`ServerKeys`]: OPRF seed, private key, and the public key that answers for accounts
/// that are not there.
const SERVER_KEYS: usize = 128;

/// Argon2id's memory in KiB.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Argon2<'static>;
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The other side's bytes are of another form.
    #[error("not a message of the password protocol")]
    Malformed,
    /// Password and account do not go together, or somebody is in the middle.
    #[error("the password is not right")]
    Wrong,
    /// A primitive failed.
    #[error("the password protocol failed: {0}")]
    Local(&'static str),
}

impl From<ProtocolError> for PasswordError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::InvalidLoginError => Self::Wrong,
            ProtocolError::LibraryError(_) => Self::Local("primitive"),
            _ => Self::Malformed,
        }
    }
}

fn malformed(_: ProtocolError) -> PasswordError {
    PasswordError::Malformed
}

/// Reads a message of exactly `length` bytes. OPAQUE's crate would pass over bytes behind it.
fn read<T>(
    bytes: &[u8],
    length: usize,
    read: impl FnOnce(&[u8]) -> Result<T, ProtocolError>,
) -> Result<T, PasswordError> {
    if bytes.len() != length {
        return Err(PasswordError::Malformed);
    }
    read(bytes).map_err(malformed)
}

/// Randomness in the generation of traits that OPAQUE's crate is written for.
struct Random<'a, R>(&'a mut R);

impl<R: CryptoRng> rand::RngCore for Random<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> rand::CryptoRng for Random<'_, R> {}

fn stretching() -> Result<Argon2<'static>, PasswordError> {
    let (memory, passes) = (MEMORY, PASSES);
    // The vectors hold what is computed in earnest.
    #[cfg(all(feature = "testing", not(test)))]
    let (memory, passes) = if mildam_test_keys::quick_passwords() { (8, 1) } else { (memory, passes) };
    let params = Params::new(memory, passes, LANES, None).map_err(|_| PasswordError::Local("Argon2"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The same password typed on two systems may differ in how its Hangul is composed.
fn normalised(password: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.nfc().collect::<String>().into_bytes())
}

fn identifiers(account: &AccountId) -> Identifiers<'_> {
    Identifiers { client: Some(account.as_str().as_bytes()), server: None }
}

fn context(transcript: &Hash) -> Canonical {
    Canonical::new("mildam/opaque/v1").bytes(transcript.as_bytes())
}

/// The client's side of choosing a password.
pub struct Registration {
    state: ClientRegistration<Suite>,
    password: Zeroizing<Vec<u8>>,
}

impl Registration {
    /// Begins; the request is [`REGISTRATION_REQUEST`] bytes.
    ///
    /// # Errors
    /// [`PasswordError::Local`]
    pub fn start(password: &str, rng: &mut impl CryptoRng) -> Result<(Self, Bytes), PasswordError> {
        let password = normalised(password);
        let start = ClientRegistration::<Suite>::start(&mut Random(rng), &password)?;
        Ok((Self { state: start.state, password }, start.message.serialize().to_vec().into()))
    }

    /// Ends with what the relay is to keep, [`PASSWORD_RECORD`] bytes. Takes as long as Argon2id.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`], [`PasswordError::Local`].
    pub fn finish(
        self,
        account: &AccountId,
        response: &Bytes,
        rng: &mut impl CryptoRng,
    ) -> Result<Bytes, PasswordError> {
        let response = read(response, REGISTRATION_RESPONSE, RegistrationResponse::deserialize)?;
        let ksf = stretching()?;
        let parameters = ClientRegistrationFinishParameters::new(identifiers(account), Some(&ksf));
        let finish = self.state.finish(&mut Random(rng), &self.password, response, parameters)?;
        Ok(finish.message.serialize().to_vec().into())
    }
}

/// The client's side of showing that it knows the password.
pub struct Login {
    state: ClientLogin<Suite>,
    password: Zeroizing<Vec<u8>>,
}

impl Login {
    /// Begins; the request is [`LOGIN_REQUEST`] bytes.
    ///
    /// # Errors
    /// [`PasswordError::Local`]
    pub fn start(password: &str, rng: &mut impl CryptoRng) -> Result<(Self, Bytes), PasswordError> {
        let password = normalised(password);
        let start = ClientLogin::<Suite>::start(&mut Random(rng), &password)?;
        Ok((Self { state: start.state, password }, start.message.serialize().to_vec().into()))
    }

    /// Ends with [`LOGIN_FINISH`] bytes for the relay. Takes as long as Argon2id.
    ///
    /// # Errors
    /// [`PasswordError::Wrong`] for another password, an account that is not there, and for a
    /// relay that does not have the record; [`PasswordError::Malformed`]; [`PasswordError::Local`].
    pub fn finish(
        self,
        account: &AccountId,
        response: &Bytes,
        transcript: &Hash,
        rng: &mut impl CryptoRng,
    ) -> Result<Bytes, PasswordError> {
        let response = read(response, LOGIN_RESPONSE, CredentialResponse::deserialize)?;
        let (ksf, context) = (stretching()?, context(transcript));
        let parameters =
            ClientLoginFinishParameters::new(Some(context.as_bytes()), identifiers(account), Some(&ksf));
        let finish = self.state.finish(&mut Random(rng), &self.password, response, parameters)?;
        Ok(finish.message.serialize().to_vec().into())
    }
}

/// What the relay needs to serve passwords: its OPRF seed and its OPAQUE key pair. Losing it makes
/// every password wrong; showing it to a thief of the records lets him try passwords.
pub struct ServerKeys(ServerSetup<Suite>);

/// A login that waits for its last word.
pub struct PendingLogin {
    state: ServerLogin<Suite>,
    context: Canonical,
    account: AccountId,
}

impl ServerKeys {
    /// Makes new ones.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(ServerSetup::new(&mut Random(rng)))
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PasswordError> {
        read(bytes, SERVER_KEYS, ServerSetup::deserialize).map(Self)
    }

    /// The bytes to keep.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize().to_vec())
    }

    /// Answers a [`Registration`]'s request; nothing has to be remembered.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`]
    pub fn register(&self, account: &AccountId, request: &Bytes) -> Result<Bytes, PasswordError> {
        let request = read(request, REGISTRATION_REQUEST, RegistrationRequest::deserialize)?;
        let start = ServerRegistration::<Suite>::start(&self.0, request, account.as_str().as_bytes())?;
        Ok(start.message.serialize().to_vec().into())
    }

    /// Answers a [`Login`]'s request. Without a record the answer cannot be told from one with,
    /// and no password will fit.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`] for the request; [`PasswordError::Local`] for a record that
    /// cannot be read.
    pub fn answer(
        &self,
        account: &AccountId,
        record: Option<&[u8]>,
        request: &Bytes,
        transcript: &Hash,
        rng: &mut impl CryptoRng,
    ) -> Result<(PendingLogin, Bytes), PasswordError> {
        let record = record
            .map(|record| read(record, PASSWORD_RECORD, ServerRegistration::<Suite>::deserialize))
            .transpose()
            .map_err(|_| PasswordError::Local("password record"))?;
        let request = read(request, LOGIN_REQUEST, CredentialRequest::deserialize)?;
        let context = context(transcript);
        let parameters =
            ServerLoginParameters { context: Some(context.as_bytes()), identifiers: identifiers(account) };
        let id = account.as_str().as_bytes();
        let start = ServerLogin::start(&mut Random(rng), &self.0, record, request, id, parameters)?;
        let pending = PendingLogin { state: start.state, context, account: account.clone() };
        Ok((pending, start.message.serialize().to_vec().into()))
    }
}

impl PendingLogin {
    /// Whose login it is.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.account
    }

    /// Judges the last word.
    ///
    /// # Errors
    /// [`PasswordError::Wrong`], [`PasswordError::Malformed`].
    pub fn finish(self, last: &Bytes) -> Result<(), PasswordError> {
        let last = read(last, LOGIN_FINISH, CredentialFinalization::deserialize)?;
        let parameters = ServerLoginParameters {
            context: Some(self.context.as_bytes()),
            identifiers: identifiers(&self.account),
        };
        self.state.finish(last, parameters)?;
        Ok(())
    }
}

/// Checks that a record could have come from [`Registration::finish`].
///
/// # Errors
/// [`PasswordError::Malformed`]
pub fn check_record(record: &[u8]) -> Result<(), PasswordError> {
    read(record, PASSWORD_RECORD, RegistrationUpload::<Suite>::deserialize).map(|_| ())
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
redacted!(Registration, Login, ServerKeys, PendingLogin);

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    const TRANSCRIPT: Hash = Hash::from_bytes([7; 32]);

    fn rng() -> UnwrapErr<SysRng> {
        UnwrapErr(SysRng)
    }

    fn account(id: &str) -> AccountId {
        id.parse().unwrap()
    }

    fn record(keys: &ServerKeys, id: &str, password: &str) -> Bytes {
        let (registration, request) = Registration::start(password, &mut rng()).unwrap();
        assert_eq!(request.len(), REGISTRATION_REQUEST);
        let response = keys.register(&account(id), &request).unwrap();
        assert_eq!(response.len(), REGISTRATION_RESPONSE);
        let record = registration.finish(&account(id), &response, &mut rng()).unwrap();
        assert_eq!(record.len(), PASSWORD_RECORD);
        check_record(&record).unwrap();
        record
    }

    /// A login, the transcripts as each side has them.
    fn log_in(
        keys: &ServerKeys,
        record: Option<&Bytes>,
        password: &str,
        theirs: &Hash,
    ) -> Result<(), PasswordError> {
        let id = account("alice");
        let (login, request) = Login::start(password, &mut rng()).unwrap();
        assert_eq!(request.len(), LOGIN_REQUEST);
        let record = record.map(|record| &**record);
        let (pending, response) = keys.answer(&id, record, &request, &TRANSCRIPT, &mut rng()).unwrap();
        assert_eq!(response.len(), LOGIN_RESPONSE);
        let last = login.finish(&id, &response, theirs, &mut rng())?;
        assert_eq!(last.len(), LOGIN_FINISH);
        pending.finish(&last)
    }

    // REQ A3
    #[test]
    fn only_the_password_fits() {
        let keys = ServerKeys::generate(&mut rng());
        let keys = ServerKeys::from_bytes(&keys.to_bytes()).unwrap();
        let kept = record(&keys, "alice", "a long passphrase 가나다");
        assert_eq!(log_in(&keys, Some(&kept), "a long passphrase 가나다", &TRANSCRIPT), Ok(()));
        let decomposed: String = "a long passphrase 가나다".nfd().collect();
        assert_eq!(log_in(&keys, Some(&kept), &decomposed, &TRANSCRIPT), Ok(()));
        let wrong = Err(PasswordError::Wrong);
        assert_eq!(log_in(&keys, Some(&kept), "a long passphrase", &TRANSCRIPT), wrong);
        assert_eq!(log_in(&keys, None, "a long passphrase 가나다", &TRANSCRIPT), wrong);
        // The relay's other accounts, another relay, another connection.
        let bobs = record(&keys, "bob", "a long passphrase 가나다");
        assert_eq!(log_in(&keys, Some(&bobs), "a long passphrase 가나다", &TRANSCRIPT), wrong);
        let others = ServerKeys::generate(&mut rng());
        assert_eq!(log_in(&others, Some(&kept), "a long passphrase 가나다", &TRANSCRIPT), wrong);
        let elsewhere = Hash::from_bytes([8; 32]);
        assert_eq!(log_in(&keys, Some(&kept), "a long passphrase 가나다", &elsewhere), wrong);
    }

    // REQ T4
    #[test]
    fn other_bytes_are_refused() {
        let keys = ServerKeys::generate(&mut rng());
        let malformed = Some(PasswordError::Malformed);
        for bytes in [vec![], vec![0; 31], vec![0; 32], vec![0xff; 32], vec![0; 96], vec![0xff; 320]] {
            let bytes = Bytes(bytes);
            assert_eq!(keys.register(&account("alice"), &bytes).err(), malformed);
            let answer = keys.answer(&account("alice"), None, &bytes, &TRANSCRIPT, &mut rng());
            assert_eq!(answer.err(), malformed);
            assert_eq!(check_record(&bytes).err(), malformed);
            assert!(ServerKeys::from_bytes(&bytes).is_err());
            let (login, _) = Login::start("password", &mut rng()).unwrap();
            let finish = login.finish(&account("alice"), &bytes, &TRANSCRIPT, &mut rng());
            assert!(finish.is_err());
        }
    }

    /// The same bytes, and one more.
    fn longer(bytes: &[u8]) -> Bytes {
        Bytes([bytes, &[0]].concat())
    }

    // REQ T4
    #[test]
    fn bytes_behind_a_message_are_refused() {
        let (keys, id) = (ServerKeys::generate(&mut rng()), account("alice"));
        let malformed = Some(PasswordError::Malformed);
        assert_eq!(ServerKeys::from_bytes(&longer(&keys.to_bytes())).err(), malformed);
        let (registration, request) = Registration::start("password", &mut rng()).unwrap();
        assert_eq!(keys.register(&id, &longer(&request)).err(), malformed);
        let response = longer(&keys.register(&id, &request).unwrap());
        assert_eq!(registration.finish(&id, &response, &mut rng()).err(), malformed);

        let kept = record(&keys, "alice", "password");
        assert_eq!(check_record(&longer(&kept)).err(), malformed);
        let (login, request) = Login::start("password", &mut rng()).unwrap();
        let answer = |record: &Bytes, request: Bytes| {
            keys.answer(&id, Some(record), &request, &TRANSCRIPT, &mut rng())
        };
        assert_eq!(answer(&kept, longer(&request)).err(), malformed);
        let damaged = Some(PasswordError::Local("password record"));
        assert_eq!(answer(&longer(&kept), request.clone()).err(), damaged);
        let (pending, response) = answer(&kept, request.clone()).unwrap();
        let (again, _) = Login::start("password", &mut rng()).unwrap();
        assert_eq!(again.finish(&id, &longer(&response), &TRANSCRIPT, &mut rng()).err(), malformed);
        let last = login.finish(&id, &response, &TRANSCRIPT, &mut rng()).unwrap();
        assert_eq!(pending.finish(&longer(&last)).err(), malformed);
    }
}
