//! People with real keys: what the relay stores of them is what it will store of users.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ed25519_dalek::{Signer, SigningKey};
use mildam_e2ee::recovery::WordLanguage;
use mildam_e2ee::{
    Accepted, Body, Content, DeviceKey, DeviceSecrets, IdentityKey, KnownAccount, NewChange, NewRoom,
    NotAccepted, PreKey, Reader, RecoveryWords, Room, SealedIdentity, WrapKey, first_device_list,
};
use mildam_protocol::command::{
    Attach, AttachAnswer, DevicesSet, EpochAnnounce, FriendAccept, FriendRequest, GetAccountKeys, LogIn,
    MessageSend, NewEpoch, PreKeyReplace, Recover, RecoverStart, RoomCreate, RoomCreateAnswer, RoomList,
    RoomLog, RoomLogAnswer, RoomSetChange, RoomSummary, SignUp, SignUpStart, StoredAnswer,
};
use mildam_protocol::password::Registration;
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::{
    AccountId, AccountKeys, Canonical, ClientMessageId, DeviceList, Hash, LogPosition, Message, Receipt,
    ReceiptKind, RoomId, RoomKind,
};
use mildam_protocol::{Code, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;
use crate::relay::{TestRelay, now, rng, server_key};

pub const NOW: u64 = 1_700_000_000_000;

pub fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

pub fn password(name: &str) -> String {
    format!("correct horse battery {name}")
}

/// Keys of a person, made once in a run.
#[derive(Serialize, Deserialize)]
struct Kept {
    secrets: Bytes,
    sealed_identity: Bytes,
    words: String,
    public: AccountKeys,
}

impl Kept {
    fn of(name: &str) -> Self {
        // Whoever has a name has its keys, all through a run. Those of another run may be anybody's now.
        static MADE: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || serde_json::to_vec(&Self::make(account(name))).unwrap();
        serde_json::from_slice(made.entry(name.to_owned()).or_insert_with(make)).unwrap()
    }

    fn make(account: AccountId) -> Self {
        let identity = IdentityKey::generate(&mut rng()).unwrap();
        let wrap = WrapKey::generate(&mut rng()).unwrap();
        let device = DeviceKey::generate(&mut rng());
        let prekey = PreKey::generate(&mut rng()).unwrap();
        let secrets = DeviceSecrets::new(account.clone(), wrap, device, prekey, now()).unwrap();
        let list = first_device_list(&identity, &secrets, 1, &mut rng()).unwrap();
        let words = RecoveryWords::generate(&mut rng());
        let sealed = identity.seal(&words, &account, &mut rng()).unwrap();
        Self {
            secrets: secrets.to_secret_bytes().unwrap().to_vec().into(),
            sealed_identity: sealed.0,
            words: words.words(WordLanguage::English).join(" "),
            public: AccountKeys {
                account,
                identity_key: identity.public().clone(),
                lists: vec![list],
                prekeys: vec![secrets.signed_prekey().unwrap().clone()],
            },
        }
    }
}

/// The keys of one more device. All of these have one wrap key: RSA keys take seconds to make.
pub fn new_device(account: &AccountId) -> DeviceSecrets {
    let wrap = WrapKey::from_pkcs8(server_key()).unwrap();
    let (device, prekey) = (DeviceKey::generate(&mut rng()), PreKey::generate(&mut rng()).unwrap());
    DeviceSecrets::new(account.clone(), wrap, device, prekey, now()).unwrap()
}

/// A room as a person sees it.
struct View {
    room: Room,
    hashes: BTreeMap<u64, Hash>,
}

pub struct Person {
    pub account: AccountId,
    pub secrets: DeviceSecrets,
    pub keys: AccountKeys,
    pub client: Client,
    pub words: RecoveryWords,
    sealed_identity: Bytes,
    directory: BTreeMap<AccountId, KnownAccount>,
    views: BTreeMap<RoomId, View>,
    sent: u64,
}

impl Person {
    /// Somebody who is connected and has no account yet.
    pub async fn stranger(relay: &TestRelay, name: &str) -> Self {
        Self::with(Client::connect(relay).await, name)
    }

    pub fn with(client: Client, name: &str) -> Self {
        Self::by(client, name, Kept::of(name))
    }

    /// Somebody else who wants that name, with keys of their own.
    pub fn namesake(client: Client, name: &str) -> Self {
        Self::by(client, name, Kept::make(account(name)))
    }

    fn by(client: Client, name: &str, kept: Kept) -> Self {
        let own = KnownAccount::first_contact(kept.public.clone()).unwrap();
        Self {
            account: account(name),
            secrets: DeviceSecrets::from_secret_bytes(&kept.secrets).unwrap(),
            directory: BTreeMap::from([(account(name), own)]),
            keys: kept.public,
            sealed_identity: kept.sealed_identity,
            words: RecoveryWords::parse(&kept.words).unwrap(),
            client,
            views: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Somebody with an account, attached.
    pub async fn new(relay: &TestRelay, name: &str) -> Self {
        let mut person = Self::stranger(relay, name).await;
        person.sign_up().await.unwrap();
        person.attach().await.unwrap();
        person
    }

    /// Attaches the connection to the session.
    pub async fn attach(&mut self) -> Result<AttachAnswer, Refusal> {
        let proof = self.secrets.sign_attach_proof(&self.client.transcript);
        self.client.ask(&Attach { proof }).await
    }

    /// A command to sign up with; the relay's part in the password comes from `response`.
    pub fn sign_up_with(&self, password: Bytes) -> SignUp {
        SignUp {
            account: self.account.clone(),
            email: format!("{}@example.org", self.account),
            password,
            recovery_key: self.words.recovery_key(&self.account).unwrap(),
            proof: self.secrets.sign_login_proof(&self.client.transcript),
            invitation: None,
            nickname: format!("{} 님", self.account),
            identity_key: self.keys.identity_key.clone(),
            sealed_identity: self.sealed_identity.clone(),
            device_list: self.keys.lists[0].clone(),
            prekey: self.keys.prekeys[0].clone(),
        }
    }

    pub async fn sign_up_command(&mut self) -> SignUp {
        let id = self.account.clone();
        let (registration, request) = Registration::start(&password(id.as_str()), &mut rng()).unwrap();
        let start = SignUpStart { account: id.clone(), password: request };
        let response = self.client.ask(&start).await.unwrap().password;
        self.sign_up_with(registration.finish(&id, &response, &mut rng()).unwrap())
    }

    pub async fn sign_up(&mut self) -> Result<(), Refusal> {
        let command = self.sign_up_command().await;
        let answer = self.client.ask(&command).await?;
        self.client.session = Some(answer.session);
        Ok(())
    }

    /// Goes as far as the last step of a login with a password.
    pub async fn log_in_command(&mut self, password: &str) -> LogIn {
        let (account, transcript) = (self.account.clone(), self.client.transcript);
        let password = self.client.password_proof(&account, password).await;
        LogIn {
            password,
            device: self.secrets.device(),
            proof: self.secrets.sign_login_proof(&transcript),
            account,
        }
    }

    pub async fn log_in(&mut self) -> Result<(), Refusal> {
        let own = password(self.account.as_str());
        self.log_in_with(&own).await
    }

    pub async fn log_in_with(&mut self, password: &str) -> Result<(), Refusal> {
        let command = self.log_in_command(password).await;
        let answer = self.client.ask(&command).await?;
        self.client.session = Some(answer.session);
        self.attach().await.map(drop)
    }

    /// The same person at another device, which the relay may not know yet.
    pub fn at(mut self, secrets: DeviceSecrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// The first step of a recovery by the words.
    pub fn recover_start(&self, password: Bytes) -> RecoverStart {
        let proof = self.words.sign(&self.account, &self.client.transcript).unwrap();
        RecoverStart { account: self.account.clone(), password, proof }
    }

    /// Goes as far as the last step of a recovery with this device and a new password.
    pub async fn recover_command(&mut self, password: &str) -> Recover {
        let (registration, request) = Registration::start(password, &mut rng()).unwrap();
        let start = self.recover_start(request);
        let begun = self.client.ask(&start).await.unwrap();
        let sealed = SealedIdentity(begun.sealed_identity);
        let identity = sealed.open(&self.words, &self.account, &begun.keys.identity_key).unwrap();
        let generation = begun.keys.lists.last().unwrap().generation + 1;
        let list = first_device_list(&identity, &self.secrets, generation, &mut rng()).unwrap();
        let record = registration.finish(&self.account, &begun.password, &mut rng()).unwrap();
        self.recover_with(record, list)
    }

    /// The last step of a recovery, with a proof for this connection.
    pub fn recover_with(&self, password: Bytes, device_list: DeviceList) -> Recover {
        let transcript = &self.client.transcript;
        Recover {
            account: self.account.clone(),
            proof: self.secrets.sign_recovered(transcript, &password, &device_list.hash()),
            password,
            prekey: self.secrets.signed_prekey().unwrap().clone(),
            device_list,
        }
    }

    pub async fn recover(&mut self, password: &str) -> Result<(), Refusal> {
        let command = self.recover_command(password).await;
        let answer = self.client.ask(&command).await?;
        self.client.session = Some(answer.session);
        self.attach().await.map(drop)
    }

    /// The next version of the device list, with these devices.
    pub fn list_of(&self, present: &DeviceList, devices: &[&DeviceSecrets]) -> DevicesSet {
        let certificates = devices.iter().map(|device| device.certificate().clone()).collect();
        DevicesSet { device_list: self.secrets.next_device_list(present, certificates) }
    }

    /// A new prekey of this device, signed by it.
    pub fn prekey_of(&self, created_at: u64) -> PreKeyReplace {
        let made = new_device(&self.account);
        let mut prekey = made.signed_prekey().unwrap().clone();
        prekey.device = self.secrets.device();
        prekey.created_at = created_at;
        prekey.signature = self.sign(&prekey.signed_bytes());
        PreKeyReplace { prekey }
    }

    /// Turns the own prekey over, as a device does that is online.
    pub async fn update_own_prekey(&mut self, now: u64) {
        let published = self.published().await.prekeys;
        let own = published.iter().find(|prekey| prekey.device == self.secrets.device());
        let due = self.secrets.prekey_due(own, now, &mut rng()).unwrap();
        let command = PreKeyReplace { prekey: due.expect("a new prekey").clone() };
        self.client.ask(&command).await.unwrap();
        self.secrets.prekey_confirmed(now);
        self.update(&self.account.clone()).await;
    }

    /// The own keys as the relay shows them.
    pub async fn published(&mut self) -> AccountKeys {
        let own = GetAccountKeys { accounts: vec![self.account.clone()] };
        self.client.ask(&own).await.unwrap().accounts.remove(0).keys
    }

    /// Goes away and comes back with what it had.
    pub async fn reconnect(&mut self, relay: &TestRelay) {
        let session = self.client.session.take();
        self.client = Client::connect(relay).await;
        self.client.session = session;
        self.attach().await.unwrap();
    }

    /// Signs a record that was altered, so that only the alteration can be what is refused.
    pub fn sign(&self, bytes: &Canonical) -> Signature {
        let stored: Value = serde_json::from_slice(&self.secrets.to_secret_bytes().unwrap()).unwrap();
        let seed: Bytes = serde_json::from_value(stored["signer"].clone()).unwrap();
        let key = SigningKey::from_bytes(&seed.0.try_into().unwrap());
        Signature::from_bytes(key.sign(bytes.as_bytes()).to_bytes())
    }

    pub async fn befriend(&mut self, other: &mut Self) {
        let request = FriendRequest { account: other.account.clone(), greeting: "안녕".into() };
        self.client.ask(&request).await.unwrap();
        other.client.ask(&FriendAccept { account: self.account.clone() }).await.unwrap();
        self.learn(std::slice::from_ref(&other.account)).await;
        other.learn(std::slice::from_ref(&self.account)).await;
    }

    pub async fn learn(&mut self, accounts: &[AccountId]) {
        let answer = self.client.ask(&GetAccountKeys { accounts: accounts.to_vec() }).await.unwrap();
        for known in answer.accounts {
            let account = known.keys.account.clone();
            self.directory.insert(account, KnownAccount::first_contact(known.keys).unwrap());
        }
    }

    /// Asks for the keys of an account that is known, and goes on from what was known.
    pub async fn update(&mut self, account: &AccountId) -> AccountKeys {
        let command = GetAccountKeys { accounts: vec![account.clone()] };
        let keys = self.client.ask(&command).await.unwrap().accounts.remove(0).keys;
        self.directory.get_mut(account).unwrap().update(keys.clone()).unwrap();
        keys
    }

    pub fn new_room(&self, kind: RoomKind, others: &[&AccountId]) -> RoomCreate {
        let others: Vec<_> = others.iter().map(|other| (*other).clone()).collect();
        let NewRoom { change, epoch, .. } =
            Room::create(kind, &others, None, &self.secrets, &self.directory, NOW, &mut rng()).unwrap();
        RoomCreate { change, epoch: wire(epoch) }
    }

    pub async fn create(&mut self, kind: RoomKind, others: &[&AccountId]) -> RoomId {
        let command = self.new_room(kind, others);
        let RoomCreateAnswer { room, created } = self.client.ask(&command).await.unwrap();
        assert!(created);
        self.catch_up(&room).await;
        room
    }

    pub async fn rooms(&mut self) -> Vec<RoomSummary> {
        self.client.ask(&RoomList {}).await.unwrap().rooms
    }

    pub async fn summary(&mut self, room: &RoomId) -> RoomSummary {
        self.rooms().await.into_iter().find(|summary| summary.room == *room).expect("a room of mine")
    }

    pub async fn page(
        &mut self,
        room: &RoomId,
        after_seq: u64,
        after_epoch: u64,
        limit: u32,
    ) -> Result<RoomLogAnswer, Refusal> {
        self.client.ask(&RoomLog { room: *room, after_seq, after_epoch, limit }).await
    }

    /// Reads all that is new, checks it as a real client does, and says what it was.
    pub async fn catch_up(&mut self, room: &RoomId) -> Vec<Accepted> {
        if !self.views.contains_key(room) {
            let start = self.summary(room).await.start;
            let view = View { room: Room::joining(*room, start), hashes: BTreeMap::new() };
            self.views.insert(*room, view);
        }
        let mut accepted = Vec::new();
        loop {
            let (position, epoch) = (self.position(room), self.views[room].room.epoch());
            let page = self.page(room, position.seq, epoch, 3).await.unwrap();
            for item in &page.items {
                let mut outcome = self.accept(room, item, false);
                if let Err(NotAccepted::NeedsKeys(accounts)) = &outcome {
                    let accounts = accounts.clone();
                    self.learn(&accounts).await;
                    outcome = self.accept(room, item, true);
                }
                accepted.push(outcome.unwrap());
            }
            if !page.more {
                return accepted;
            }
        }
    }

    fn accept(
        &mut self,
        room: &RoomId,
        item: &mildam_protocol::records::LogItem,
        keys_are_fresh: bool,
    ) -> Result<Accepted, NotAccepted> {
        let view = self.views.get_mut(room).unwrap();
        let reader = Reader {
            secrets: &self.secrets,
            directory: &self.directory,
            hashes: &view.hashes,
            keys_are_fresh,
            now: NOW,
        };
        let outcome = view.room.accept(item, &reader, &mut rng());
        let position = view.room.position();
        view.hashes.insert(position.seq, position.hash);
        outcome
    }

    pub fn position(&self, room: &RoomId) -> LogPosition {
        self.views[room].room.position()
    }

    pub fn seal(&mut self, room: &RoomId, text: &str) -> MessageSend {
        self.sent += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.sent.to_be_bytes());
        id[8] = self.account.as_str().as_bytes()[0];
        let content = Content { sent_at: NOW, body: Body::Text(text.to_owned()) };
        let view = self.views.get_mut(room).unwrap();
        let id = ClientMessageId::from_bytes(id);
        // Its place in time: epochs do not grow old here.
        let now = NOW;
        let message = view.room.seal(&content, id, &self.secrets, &self.directory, now, &mut rng());
        MessageSend { message: message.unwrap() }
    }

    pub async fn say(&mut self, room: &RoomId, text: &str) -> Result<StoredAnswer, Refusal> {
        let command = self.seal(room, text);
        self.client.ask(&command).await
    }

    /// The same message, altered and signed again.
    pub fn altered(&self, command: &MessageSend, alter: impl FnOnce(&mut Message)) -> MessageSend {
        let mut message = command.message.clone();
        alter(&mut message);
        message.signature = self.sign(&message.signed_bytes());
        MessageSend { message }
    }

    pub fn announcement(&self, room: &RoomId) -> EpochAnnounce {
        let epoch = self.views[room].room.announce(&self.secrets, &self.directory, NOW, &mut rng());
        EpochAnnounce { epoch: wire(epoch.unwrap()) }
    }

    pub fn addition(&self, room: &RoomId, others: &[&AccountId]) -> RoomSetChange {
        let others: Vec<_> = others.iter().map(|other| (*other).clone()).collect();
        let room = &self.views[room].room;
        change(room.add(&others, &self.secrets, &self.directory, NOW, &mut rng()).unwrap())
    }

    pub fn removal(&self, room: &RoomId, other: &AccountId) -> RoomSetChange {
        let room = &self.views[room].room;
        change(room.remove(other, &self.secrets, &self.directory, NOW, &mut rng()).unwrap())
    }

    pub fn leave(&self, room: &RoomId) -> RoomSetChange {
        change(self.views[room].room.leave(&self.secrets, &self.directory, NOW).unwrap())
    }

    pub fn receipt(&self, room: &RoomId, kind: ReceiptKind, at: LogPosition) -> Receipt {
        self.secrets.sign_receipt(*room, kind, at)
    }

    pub fn hash_at(&self, room: &RoomId, seq: u64) -> LogPosition {
        LogPosition { seq, hash: self.views[room].hashes[&seq] }
    }
}

fn wire(epoch: mildam_e2ee::NewEpoch) -> NewEpoch {
    NewEpoch { announcement: epoch.announcement, wraps: epoch.wraps, profile: epoch.profile }
}

fn change(new: NewChange) -> RoomSetChange {
    RoomSetChange { change: new.change, snapshot: new.snapshot, epoch: new.epoch.map(wire) }
}

/// What a message says.
pub fn text_of(accepted: &Accepted) -> &str {
    match accepted {
        Accepted::Message(message) => match &message.content.body {
            Body::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        },
        other => panic!("not a message: {other:?}"),
    }
}

pub fn texts(accepted: &[Accepted]) -> Vec<&str> {
    let messages = accepted.iter().filter(|one| matches!(one, Accepted::Message(_)));
    messages.map(text_of).collect()
}

/// The code of a refusal.
pub fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> Code {
    outcome.expect_err("this should have been refused").code
}

/// Alice and Bob, friends.
pub async fn two_friends(relay: &TestRelay) -> (Person, Person) {
    let mut alice = Person::new(relay, "alice").await;
    let mut bob = Person::new(relay, "bob").await;
    alice.befriend(&mut bob).await;
    (alice, bob)
}

/// Alice and Bob in their direct room.
pub async fn two_talking(relay: &TestRelay) -> (Person, Person, RoomId) {
    let (mut alice, mut bob) = two_friends(relay).await;
    let room = alice.create(RoomKind::Direct, &[&bob.account.clone()]).await;
    bob.catch_up(&room).await;
    (alice, bob, room)
}

/// Alice with her friends Bob and Carol, who do not know each other.
pub async fn three(relay: &TestRelay) -> (Person, Person, Person) {
    let (mut alice, bob) = two_friends(relay).await;
    let mut carol = Person::new(relay, "carol").await;
    alice.befriend(&mut carol).await;
    (alice, bob, carol)
}
