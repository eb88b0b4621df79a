//! A member who works together with the relay: everything that lies in this member's vault, in the
//! hands of somebody who signs, seals and asks for whatever may do harm.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use data_encoding::BASE64URL_NOPAD as B64;
use ed25519_dalek::{Signer as _, SigningKey};
use mildam_e2ee::records::keys::Signature;
use mildam_e2ee::records::{AccountId, Canonical, ClientMessageId, EpochAnnouncement, Message, Receipt};
use mildam_e2ee::{Body, Content, DeviceSecrets, KnownAccount, NewEpoch, Room};
use mildam_tests::{Person, Relay};
use mildam_vault::{Slot, Unlock, Vault};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::wire::{self, RelayKey};
use crate::peer::rng;

fn now() -> Result<u64> {
    Ok(u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?)
}

/// What a device knows, at the moment when it was taken.
pub struct Hand {
    /// The device's keys.
    pub secrets: DeviceSecrets,
    /// What it knows of others.
    pub directory: BTreeMap<AccountId, KnownAccount>,
    signer: SigningKey,
    rooms: BTreeMap<String, Vec<u8>>,
    /// The session's id.
    pub session: Value,
}

impl Hand {
    /// Takes everything from a person's vault, which nobody else has open.
    pub fn of(person: &Person) -> Result<Self> {
        let vault = Vault::open(person.home(), Unlock::Passphrase(Zeroizing::new(person.passphrase())))?;
        let secret = vault.get(Slot::Device)?.context("no device")?;
        let shown: Value = serde_json::from_slice(&secret)?;
        let seed = shown.get("signer").and_then(Value::as_str).context("no device key")?;
        let seed = B64.decode(seed.as_bytes())?;
        let session: Value = serde_json::from_slice(&vault.get(Slot::Session)?.context("no session")?)?;
        let mut directory = BTreeMap::new();
        for (account, row) in vault.accounts()? {
            let row: Value = serde_json::from_slice(&row)?;
            let known = row.get("known").context("no keys")?;
            directory.insert(account, serde_json::from_value(known.clone())?);
        }
        let rooms = vault.rooms()?.into_iter().map(|(id, row)| (id.to_string(), row.state.to_vec()));
        Ok(Self {
            secrets: DeviceSecrets::from_secret_bytes(&secret)?,
            directory,
            signer: SigningKey::from_bytes(seed.as_slice().try_into()?),
            rooms: rooms.collect(),
            session: session.get("session").context("no session")?.clone(),
        })
    }

    fn room(&self, room: &str) -> Result<Room> {
        Ok(Room::from_secret_bytes(self.rooms.get(room).context("no such room")?)?)
    }

    fn sign(&self, bytes: &Canonical) -> Signature {
        Signature::from_bytes(self.signer.sign(bytes.as_bytes()).to_bytes())
    }

    /// Seals a text as this member would, under an id of one's choice. Always from the state that
    /// was taken: the next one has the same number.
    pub fn seal(&self, room: &str, id: ClientMessageId, text: &str) -> Result<Message> {
        let content = Content { sent_at: 0, body: Body::Text(text.to_owned()) };
        Ok(self.room(room)?.seal(&content, id, &self.secrets, &self.directory, now()?, &mut rng())?)
    }

    /// Announces a new epoch as this member would.
    pub fn announce(&self, room: &str) -> Result<NewEpoch> {
        Ok(self.room(room)?.announce(&self.secrets, &self.directory, now()?, &mut rng())?)
    }

    /// Signs a message, whatever it says.
    pub fn sign_message(&self, mut message: Message) -> Message {
        message.signature = self.sign(&message.signed_bytes());
        message
    }

    /// Signs an announcement, whatever it says.
    pub fn sign_epoch(&self, mut announcement: EpochAnnouncement) -> EpochAnnouncement {
        announcement.signature = self.sign(&announcement.signed_bytes());
        announcement
    }

    /// Signs a receipt, whatever it says.
    pub fn sign_receipt(&self, mut receipt: Receipt) -> Receipt {
        receipt.signature = self.sign(&receipt.signed_bytes());
        receipt
    }

    /// Asks the relay something in this member's session, past every client: the data, or the code
    /// of the refusal.
    pub fn ask(&self, relay: &Relay, command: &str, data: &Value) -> Result<Result<Value, String>> {
        let key = RelayKey::from_pkcs8(&std::fs::read(relay.data().join("server-key.der"))?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(relay.plain()?).await?;
            let (mut reader, mut writer, transcript) = wire::connect(tokio::io::split(stream), &key).await?;
            let attach = json!({"proof": self.secrets.sign_attach_proof(&transcript)});
            for (id, command, data) in [(1, "attach", &attach), (2, command, data)] {
                let request = json!({"command": command, "id": id, "session": self.session, "data": data});
                writer.request(&request).await?;
            }
            loop {
                let mut answer = reader.answer().await?;
                match (answer.get("id").and_then(Value::as_u64), answer.remove("data"), answer.get("code")) {
                    (Some(2), Some(data), _) => return Ok(Ok(data)),
                    (Some(2), None, Some(Value::String(code))) => return Ok(Err(code.clone())),
                    (Some(1), None, code) => bail!("not attached: {code:?}"),
                    _ => {}
                }
            }
        })
    }
}
