//! Set-up and session as docs/protocol.md writes them, from both sides, with everything inside as
//! plain JSON: whoever holds the relay's key reads and writes what it likes.

use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, KeyInit as _};
use anyhow::{Context as _, Result, anyhow};
use data_encoding::BASE64URL_NOPAD as B64;
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use mildam_protocol::frame;
use mildam_protocol::records::{Canonical, Hash};
use rand_core::Rng as _;
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey, pss};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::peer::rng;

const IV: usize = 16;
const SESSION_KEY_LABEL: &[u8] = b"mildam/session-key/v1";

/// The relay's key, as it lies in the relay's folder.
pub struct RelayKey {
    key: RsaPrivateKey,
    spki: Vec<u8>,
}

impl RelayKey {
    /// Reads PKCS #8.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let key = RsaPrivateKey::from_pkcs8_der(der)?;
        let spki = key.to_public_key().to_public_key_der()?.as_bytes().to_vec();
        Ok(Self { key, spki })
    }
}

/// One direction of a session: its key, and how many frames it has carried.
struct Direction {
    cipher: AesGcm<Aes256, U16>,
    position: u64,
}

impl Direction {
    fn new(key: &[u8]) -> Result<Self> {
        let cipher = AesGcm::new_from_slice(key).map_err(|_| anyhow!("a key of another length"))?;
        Ok(Self { cipher, position: 0 })
    }

    fn next(&mut self, label: &str) -> Canonical {
        self.position += 1;
        Canonical::new(label).integer(self.position - 1)
    }

    fn seal(&self, plain: &[u8], aad: &Canonical) -> Result<Vec<u8>> {
        let mut iv = [0; IV];
        rng().fill_bytes(&mut iv);
        let payload = Payload { msg: plain, aad: aad.as_bytes() };
        let sealed = self.cipher.encrypt(&iv.into(), payload).map_err(|_| anyhow!("cannot seal"))?;
        Ok([iv.as_slice(), &sealed].concat())
    }

    fn open(&self, sealed: &[u8], aad: &Canonical) -> Result<Vec<u8>> {
        let (iv, sealed) = sealed.split_first_chunk::<IV>().context("a frame without an IV")?;
        let payload = Payload { msg: sealed, aad: aad.as_bytes() };
        self.cipher.decrypt(iv.into(), payload).map_err(|_| anyhow!("a frame does not open"))
    }
}

/// The reading half of a session.
pub struct Reader<S> {
    stream: S,
    direction: Direction,
}

/// The writing half of a session.
pub struct Writer<S> {
    stream: S,
    direction: Direction,
}

/// An answer or a push, in clear: `id` is null for a push, and `data` or `code` and `message` are
/// there.
pub type Answer = Map<String, Value>;

impl<S: AsyncRead + Unpin> Reader<S> {
    /// The next request, in clear: `command`, `id`, `session`, `data`.
    pub async fn request(&mut self) -> Result<Value> {
        let payload = receive(&mut self.stream).await?;
        let aad = self.direction.next("mildam/request/v1");
        Ok(serde_json::from_slice(&self.direction.open(&payload, &aad)?)?)
    }

    /// The next answer or push, in clear.
    pub async fn answer(&mut self) -> Result<Answer> {
        let mut answer: Answer = serde_json::from_slice(&receive(&mut self.stream).await?)?;
        let aad = answer_aad(&mut self.direction, &answer);
        if let Some(Value::String(data)) = answer.get("data") {
            let plain = self.direction.open(&B64.decode(data.as_bytes())?, &aad)?;
            answer.insert("data".to_owned(), serde_json::from_slice(&plain)?);
        }
        answer.remove("proof");
        Ok(answer)
    }
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    /// Sends a request.
    pub async fn request(&mut self, request: &Value) -> Result<()> {
        let aad = self.direction.next("mildam/request/v1");
        let payload = self.direction.seal(request.to_string().as_bytes(), &aad)?;
        send(&mut self.stream, &payload).await
    }

    /// Sends an answer or a push.
    pub async fn answer(&mut self, mut answer: Answer) -> Result<()> {
        let aad = answer_aad(&mut self.direction, &answer);
        let (field, plain) = match answer.get("data") {
            Some(data) => ("data", data.to_string()),
            None => ("proof", String::new()),
        };
        let sealed = B64.encode(&self.direction.seal(plain.as_bytes(), &aad)?);
        answer.insert(field.to_owned(), sealed.into());
        send(&mut self.stream, Value::Object(answer).to_string().as_bytes()).await
    }
}

fn answer_aad(direction: &mut Direction, answer: &Answer) -> Canonical {
    let text = |field: &str| answer.get(field).and_then(Value::as_str);
    let number = |field: &str| answer.get(field).and_then(Value::as_u64).map(u64::to_be_bytes);
    let (id, retry_after) = (number("id"), number("retry_after"));
    direction
        .next("mildam/answer/v1")
        .text(text("status").unwrap_or_default())
        .optional(id.as_ref().map(<[u8; 8]>::as_slice))
        .optional(text("code").map(str::as_bytes))
        .optional(text("message").map(str::as_bytes))
        .optional(retry_after.as_ref().map(<[u8; 8]>::as_slice))
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await?;
    let mut payload = vec![0; frame::payload_length(header, frame::SESSION_LIMIT)?];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> Result<()> {
    stream.write_all(&frame::encode(payload)?).await?;
    Ok(stream.flush().await?)
}

fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    rng().fill_bytes(&mut nonce);
    nonce
}

/// What both sides know after the third frame.
struct Agreed {
    okm: [u8; 128],
    transcript: [u8; 32],
}

impl Agreed {
    fn new(secret: &[u8], said: [&[u8]; 3], binding: Option<&[u8; 32]>) -> Result<Self> {
        let transcript = said.iter().fold(Canonical::new("mildam/transcript/v1"), |all, one| all.bytes(one));
        let transcript = *transcript.optional(binding.map(<[u8; 32]>::as_slice)).hash().as_bytes();
        let mut okm = [0; 128];
        Hkdf::<Sha256>::new(Some(&transcript), secret)
            .expand(Canonical::new("mildam/session-keys/v1").as_bytes(), &mut okm)
            .map_err(|_| anyhow!("cannot derive keys"))?;
        Ok(Self { okm, transcript })
    }

    /// The n-th of the four keys.
    fn key(&self, n: usize) -> &[u8] {
        self.okm.chunks_exact(32).nth(n).unwrap_or_default()
    }

    fn confirm(&self, key: usize, label: &str) -> Result<String> {
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.key(key));
        let mac = mac.map_err(|_| anyhow!("a key of another length"))?;
        let said = Canonical::new(label).bytes(&self.transcript);
        Ok(B64.encode(&mac.chain_update(said.as_bytes()).finalize().into_bytes()))
    }
}

fn bytes(message: &[u8], field: &str) -> Result<Vec<u8>> {
    let message: Value = serde_json::from_slice(message)?;
    let text = message.get(field).and_then(Value::as_str);
    Ok(B64.decode(text.with_context(|| format!("no {field} in {message}"))?.as_bytes())?)
}

fn oaep() -> Oaep<Sha256> {
    Oaep::new_with_label(SESSION_KEY_LABEL)
}

/// Plays the relay towards a client, with the relay's own key.
pub async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (mut read, mut write): (R, W),
    key: &RelayKey,
    binding: Option<&[u8; 32]>,
) -> Result<(Reader<R>, Writer<W>)> {
    let header = |status| json!({"status": status, "server_info": "Mildam relay", "message": "go on"});
    let greeting = json!({
        "header": header("connecting"),
        "publicKey": B64.encode(&key.spki),
        "protocol": 1,
        "nonce": B64.encode(&nonce()),
    });
    let greeting = greeting.to_string().into_bytes();
    send(&mut write, &greeting).await?;
    let answer = receive(&mut read).await?;
    let client = RsaPublicKey::from_public_key_der(&bytes(&answer, "publicKey")?)?;
    let secret = nonce();
    let sealed = client.encrypt(&mut rng(), oaep(), &secret)?;
    let signed = Canonical::new("mildam/set-up/v1")
        .bytes(&greeting)
        .bytes(&answer)
        .bytes(&sealed)
        .optional(binding.map(<[u8; 32]>::as_slice));
    let signer = pss::SigningKey::<Sha256>::new_with_salt_len(key.key.clone(), 32);
    let signature = signer.try_sign_with_rng(&mut rng(), signed.as_bytes())?.to_vec();
    let delivery = json!({
        "header": header("connecting"),
        "sessionKey": B64.encode(&sealed),
        "signature": B64.encode(&signature),
    });
    let delivery = delivery.to_string().into_bytes();
    send(&mut write, &delivery).await?;
    let agreed = Agreed::new(&secret, [&greeting, &answer, &delivery], binding)?;
    bytes(&receive(&mut read).await?, "confirm")?;
    let confirm = agreed.confirm(3, "mildam/server-confirm/v1")?;
    send(&mut write, json!({"header": header("success"), "confirm": confirm}).to_string().as_bytes()).await?;
    Ok((
        Reader { stream: read, direction: Direction::new(agreed.key(0))? },
        Writer { stream: write, direction: Direction::new(agreed.key(1))? },
    ))
}

/// Plays a client towards the relay, without TLS. Any RSA key will do as this client's own. What comes
/// back beside the session is the hash of the connection's set-up.
pub async fn connect<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (mut read, mut write): (R, W),
    key: &RelayKey,
) -> Result<(Reader<R>, Writer<W>, Hash)> {
    let greeting = receive(&mut read).await?;
    let answer = json!({"publicKey": B64.encode(&key.spki), "nonce": B64.encode(&nonce())});
    let answer = answer.to_string().into_bytes();
    send(&mut write, &answer).await?;
    let delivery = receive(&mut read).await?;
    let secret = key.key.decrypt(oaep(), &bytes(&delivery, "sessionKey")?)?;
    let agreed = Agreed::new(&secret, [&greeting, &answer, &delivery], None)?;
    let confirm = agreed.confirm(2, "mildam/client-confirm/v1")?;
    let confirmation = json!({"status": "session_key_received", "confirm": confirm});
    send(&mut write, confirmation.to_string().as_bytes()).await?;
    bytes(&receive(&mut read).await?, "confirm")?;
    Ok((
        Reader { stream: read, direction: Direction::new(agreed.key(1))? },
        Writer { stream: write, direction: Direction::new(agreed.key(0))? },
        Hash::from_bytes(agreed.transcript),
    ))
}
