//! Sealing messages.

use mildam_records::keys::Signature;
use mildam_records::message::{MESSAGE_VERSION, MessageSalt};
use mildam_records::{ClientMessageId, Hash, Message, MessageHeader};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{MAX_CONTENT, Room, RoomError};
use crate::KeyError;
use crate::content::Content;
use crate::device::DeviceSecrets;
use crate::directory::{Directory, KnownAccount};

impl Room {
    /// Seals a message and moves the own chain on. State and sealed message must be stored in one
    /// durable step before the message goes out, and a resend must be these very bytes: so no key
    /// ever serves two texts.
    ///
    /// # Errors
    /// [`RoomError::EpochDue`] if a new epoch must be announced first, [`RoomError::TooLong`], and
    /// other [`RoomError`]s. The chain has moved only if there is none.
    pub fn seal(
        &mut self,
        content: &Content,
        id: ClientMessageId,
        secrets: &DeviceSecrets,
        directory: &dyn Directory,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Message, RoomError> {
        let membership = self.active(secrets.account())?;
        if self.needs_epoch(now, directory) {
            return Err(RoomError::EpochDue);
        }
        let plain = Zeroizing::new(serde_json::to_vec(content).map_err(|_| KeyError::Primitive("encoding"))?);
        if plain.len() > MAX_CONTENT {
            return Err(RoomError::TooLong);
        }
        let (version, head) = (membership.version(), membership.head());
        let account = secrets.account();
        let own = directory.account(account).and_then(KnownAccount::newest_hash);
        let sender_list = own.ok_or_else(|| RoomError::UnknownKeys(account.clone()))?;
        let mut salt = [0; MessageSalt::LENGTH];
        rng.fill_bytes(&mut salt);
        let salt = MessageSalt::from_bytes(salt);
        let epoch = self.epoch.as_mut().ok_or(RoomError::EpochDue)?;
        let number = epoch.number();
        let chain = epoch.own.as_mut().ok_or(RoomError::EpochDue)?;
        let n = chain.n();
        let cipher = chain.step()?.with_salt(&salt)?;
        let header = MessageHeader {
            format: MESSAGE_VERSION,
            room: self.id,
            epoch: number,
            sender: account.clone(),
            sender_device: secrets.device(),
            n,
            id,
            salt,
            commit: cipher.commit(),
            version,
            head,
            seen_seq: self.position.seq,
            seen_hash: self.position.hash,
            sender_list,
        };
        let ciphertext = cipher.seal(&plain, &header.canonical())?.into();
        let mut message = Message { header, ciphertext, signature: Signature::from_bytes([0; 64]) };
        message.signature = secrets.sign(&message.signed_bytes());
        Ok(message)
    }

    /// The list that this device seals under, for comparison with what is newest.
    #[must_use]
    pub fn own_list(&self, secrets: &DeviceSecrets) -> Option<Hash> {
        self.epoch.as_ref().and_then(|epoch| epoch.list_of(secrets.account())).copied()
    }
}
