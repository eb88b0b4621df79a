//! What every store must do. A backend's tests say
//! `store_conformance!(place)`, where `place()` makes an empty [`Place`].

use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use mildam_protocol::command::StoredAnswer;
use mildam_protocol::records::bytes::Bytes;
use mildam_protocol::records::id::{AccountId, ClientMessageId, DeviceId, Hash, RoomId};
use mildam_protocol::records::keys::Signature;
use mildam_protocol::records::membership::Membership;
use mildam_protocol::records::room::{
    Change, EpochAnnouncement, Member, Role, RoomChange, RoomKind, SealedProfile, Suite, Wrap,
};
use mildam_protocol::records::{
    Certificate, DeviceList, DevicePublicKey, IdentityPublicKey, ListSigner, LogEntry, LogItem, LogPosition,
    PreKeyPublic, Receipt, ReceiptKind, SignedPreKey, WrapPublicKey,
};
use mildam_protocol::set_up::ServerKey;
use mildam_protocol::{Code, Refusal};
use tokio::sync::oneshot;

use super::{
    BoxFuture, Committed, EntryRange, EntryRow, EpochRange, EpochRow, FirstKeys, InvitationRow, MemberRow,
    MessagePlace, NewAccount, PreKeyMark, Rejection, RoomRow, SessionRow, Store, StoreError, Transaction,
    Work, WrapRow, commit, load,
};

/// Where a store keeps its data: opening it again finds them.
#[async_trait]
pub(crate) trait Place: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

macro_rules! store_conformance {
    ($place:path) => {
        $crate::store::conformance::store_conformance!($place =>
            accounts, device_lists, prekeys, passwords, acquaintances, sessions, presence, friends, rooms, have_met, targets, entries, messages, epochs, receipts,
            refusals_undo_their_own_work_only, conflicts_harm_nobody_else,
            works_settle_in_the_order_of_their_commits, reading_changes_nothing, what_was_settled_is_durable,
            sessions_are_swept, prekeys_are_swept, requests_are_swept,
            invitations, invitations_are_swept
        );
    };
    ($place:path => $($name:ident),*) => {$(
        #[tokio::test]
        async fn $name() {
            $crate::store::conformance::$name(&$place()).await;
        }
    )*};
}
pub(crate) use store_conformance;

fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

fn hash(byte: u8) -> Hash {
    Hash::from_bytes([byte; 32])
}

fn device(byte: u8) -> DeviceId {
    DeviceId::from_bytes([byte; 16])
}

const SIGNATURE: Signature = Signature::from_bytes([7; 64]);

/// The store judges no record, so one RSA key serves everybody.
fn spki() -> &'static [u8] {
    static SPKI: OnceLock<Vec<u8>> = OnceLock::new();
    SPKI.get_or_init(|| {
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        ServerKey::generate(&mut rng).unwrap().spki().to_vec()
    })
}

fn device_key(byte: u8) -> DevicePublicKey {
    let key = ed25519_dalek::SigningKey::from_bytes(&[byte; 32]).verifying_key();
    DevicePublicKey::from_bytes(key.as_bytes()).unwrap()
}

pub(crate) fn new_account(name: &str, byte: u8) -> NewAccount {
    let id = account(name);
    let identity_key = IdentityPublicKey::from_spki(spki()).unwrap();
    let certificate = Certificate {
        account: id.clone(),
        device: device(byte),
        wrap_key: WrapPublicKey::from_spki(spki()).unwrap(),
        device_key: device_key(byte),
        created_at: 1,
        signature: SIGNATURE,
    };
    NewAccount {
        nickname: format!("{name} 님"),
        password: vec![byte; 192],
        recovery_key: device_key(byte),
        email_tag: hash(byte),
        email_sealed: vec![byte; 40],
        sealed_identity: vec![byte; 2000],
        keys: FirstKeys {
            list: DeviceList {
                account: id.clone(),
                identity: identity_key.fingerprint(),
                generation: 1,
                version: 1,
                previous: None,
                certificates: vec![certificate],
                signer: ListSigner::Identity,
                signature: Bytes(vec![byte; 384]),
            },
            prekey: SignedPreKey {
                account: id.clone(),
                device: device(byte),
                public: PreKeyPublic::from_bytes(&[byte; 1216]).unwrap(),
                created_at: 1,
                signature: SIGNATURE,
            },
        },
        identity_key,
        id,
        created_at: 1,
    }
}

const ROOM: RoomId = RoomId::from_bytes([200; 32]);

fn room_row(id: RoomId) -> RoomRow {
    RoomRow {
        id,
        kind: RoomKind::Group,
        suite: Suite::Mildam1,
        version: 1,
        head: hash(1),
        epoch: 0,
        epoch_hash: None,
        epoch_version: 0,
        end: LogPosition::START,
        closed: false,
    }
}

fn member_row(name: &str, start: u64, gone: Option<(u64, u64)>) -> MemberRow {
    MemberRow {
        member: Member { account: account(name), identity: hash(9), role: Role::Member },
        start: LogPosition { seq: start, hash: hash(3) },
        gone,
    }
}

fn change(version: u64) -> RoomChange {
    RoomChange {
        room: Some(ROOM),
        version,
        previous: Some(hash(4)),
        actor: account("alice"),
        actor_device: device(1),
        actor_list: hash(5),
        at: version,
        change: Change::Left,
        signature: SIGNATURE,
    }
}

fn entry_row(seq: u64) -> EntryRow {
    let entry = LogEntry::Change(Box::new(change(seq)));
    EntryRow {
        at: LogPosition { seq, hash: hash(seq as u8 + 50) },
        hash: entry.hash(),
        entry,
        snapshot: None,
        stored_at: 1000 + seq,
    }
}

/// Writes and waits; the work must succeed.
async fn write<T, F>(store: &dyn Store, work: F) -> T
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut dyn Transaction) -> BoxFuture<'t, Result<T, Rejection>> + Send + 'static,
{
    let (put, got) = oneshot::channel();
    let work: Work = Box::new(move |tx| {
        Box::pin(async move {
            let _ = put.send(work(tx).await?);
            Ok(Committed::default())
        })
    });
    commit(store, work).await.unwrap();
    got.await.unwrap()
}

async fn read<T, F>(store: &dyn Store, work: F) -> T
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut dyn Transaction) -> BoxFuture<'t, Result<T, Rejection>> + Send + 'static,
{
    load(store, work).await.unwrap()
}

async fn insert_people(store: &dyn Store) {
    write(store, |tx| {
        Box::pin(async move {
            for (name, byte) in [("alice", 1), ("bob", 2), ("carol", 3)] {
                tx.insert_account(&new_account(name, byte)).await?;
            }
            Ok(())
        })
    })
    .await;
}

async fn insert_room(store: &dyn Store) {
    insert_people(store).await;
    write(store, |tx| {
        Box::pin(async move {
            tx.save_room(&room_row(ROOM)).await?;
            for name in ["bob", "alice"] {
                tx.save_member(&ROOM, &member_row(name, 0, None)).await?;
            }
            Ok(())
        })
    })
    .await;
}

pub(crate) async fn accounts(place: &dyn Place) {
    let store = place.open().await;
    assert!(!read(&*store, |tx| Box::pin(async move { Ok(tx.has_accounts().await?) })).await);
    insert_people(&*store).await;
    read(&*store, |tx| {
        Box::pin(async move {
            assert!(tx.has_accounts().await?);
            let alice = new_account("alice", 1);
            let row = tx.account(&alice.id).await?.unwrap();
            assert_eq!((row.nickname.as_str(), row.password), ("alice 님", Some(vec![1; 192])));
            assert_eq!((row.recovery_key, row.sealed_identity), (Some(device_key(1)), vec![1; 2000]));
            let standing = tx.standing(&alice.id).await?.unwrap();
            assert_eq!((standing.list, row.list), (alice.keys.list.hash(), alice.keys.list.hash()));
            assert_eq!(standing.identity, alice.identity_key.fingerprint());
            let keys = tx.keys(&alice.id).await?.unwrap();
            assert_eq!(
                (keys.keys.lists, keys.keys.prekeys),
                (vec![alice.keys.list], vec![alice.keys.prekey])
            );
            assert_eq!(keys.keys.identity_key, alice.identity_key);
            assert_eq!(tx.device_key(&alice.id, &device(1)).await?, Some(device_key(1)));
            assert_eq!(tx.device_key(&alice.id, &device(2)).await?, None, "bob's device");
            let marks = tx.prekey_marks(&alice.id, 0).await?;
            assert_eq!(marks.len(), 1);
            assert!(marks[0].current && marks[0].device == device(1));
            let nobody = account("nobody");
            assert!(tx.account(&nobody).await?.is_none() && tx.keys(&nobody).await?.is_none());
            Ok(())
        })
    })
    .await;
    store.close().await;
}

/// Alice's list with these devices, each of which has the device key of its number.
fn list_of(generation: u64, version: u64, devices: &[u8]) -> DeviceList {
    let first = new_account("alice", 1).keys.list;
    let certificate = first.certificates[0].clone();
    let certificates = devices.iter().map(|byte| Certificate {
        device: device(*byte),
        device_key: device_key(*byte),
        ..certificate.clone()
    });
    DeviceList { generation, version, certificates: certificates.collect(), ..first }
}

fn prekey_of(device_byte: u8, byte: u8, created_at: u64) -> SignedPreKey {
    SignedPreKey {
        device: device(device_byte),
        public: PreKeyPublic::from_bytes(&[byte; 1216]).unwrap(),
        created_at,
        ..new_account("alice", 1).keys.prekey
    }
}

pub(crate) async fn device_lists(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let alice = account("alice");
            let both = list_of(1, 2, &[1, 10]);
            assert_eq!(tx.put_list(&both, 100).await?, []);
            tx.put_prekey(&prekey_of(10, 10, 5), 100, 0).await?;
            for byte in [1, 10] {
                let row = session_row("alice", byte, 10);
                tx.put_session(&hash(byte), &row).await?;
            }
            let row = session_row("bob", 2, 10);
            tx.put_session(&hash(2), &row).await?;
            assert_eq!(tx.removed_devices(&alice).await?, []);

            // What goes with a device, and with nobody else.
            let without = list_of(1, 3, &[1]);
            assert_eq!(tx.put_list(&without, 200).await?, [device(10)]);
            assert_eq!(tx.removed_devices(&alice).await?, [device(10)]);
            assert_eq!(tx.removed_devices(&account("bob")).await?, []);
            assert_eq!(tx.device_key(&alice, &device(10)).await?, None);
            assert_eq!(tx.device_key(&alice, &device(1)).await?, Some(device_key(1)));
            assert!(tx.session(&hash(10)).await?.unwrap().ended);
            assert!(
                !tx.session(&hash(1)).await?.unwrap().ended && !tx.session(&hash(2)).await?.unwrap().ended
            );
            let keys = tx.keys(&alice).await?.unwrap().keys;
            assert_eq!(keys.prekeys, [new_account("alice", 1).keys.prekey]);

            // A new generation; lists come in the order in which they replace each other.
            let again = list_of(2, 1, &[11]);
            assert_eq!(tx.put_list(&again, 300).await?, [device(1)]);
            assert_eq!(tx.removed_devices(&alice).await?, [device(1), device(10)]);
            let keys = tx.keys(&alice).await?.unwrap().keys;
            assert_eq!(keys.lists, [list_of(1, 1, &[1]), both, without, again.clone()]);
            assert_eq!(keys.prekeys, []);
            let (identity, list) = tx.newest_list(&alice).await?.unwrap();
            assert_eq!((identity, list), (keys.identity_key, again.clone()));
            assert!(tx.newest_list(&account("nobody")).await?.is_none());
            let newest = again.hash();
            assert_eq!(tx.standing(&alice).await?.unwrap().list, newest);
            assert_eq!(tx.account(&alice).await?.unwrap().list, newest);
            for (since, count) in [(0, 4), (1, 3), (100, 2), (299, 1), (300, 0)] {
                assert_eq!(tx.lists_since(&alice, since).await?, count, "since {since}");
            }
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn prekeys(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let alice = account("alice");
            tx.put_prekey(&prekey_of(1, 21, 1_000), 1_100, 0).await?;
            tx.put_prekey(&prekey_of(1, 22, 2_000), 2_100, 0).await?;
            assert_eq!(tx.keys(&alice).await?.unwrap().keys.prekeys, [prekey_of(1, 22, 2_000)]);
            // The one of the sign-up was replaced at 1,100, the next at 2,100.
            let seen = |marks: Vec<PreKeyMark>| -> Vec<(u64, bool)> {
                marks.iter().map(|mark| (mark.created_at, mark.current)).collect()
            };
            for (after, expected) in [
                (0, vec![(1, false), (1_000, false), (2_000, true)]),
                (1_100, vec![(1_000, false), (2_000, true)]),
                (2_100, vec![(2_000, true)]),
            ] {
                let mut marks = seen(tx.prekey_marks(&alice, after).await?);
                marks.sort_unstable();
                assert_eq!(marks, expected, "after {after}");
            }
            for (since, count) in [(0, 3), (1, 2), (1_100, 1), (2_100, 0)] {
                assert_eq!(tx.prekeys_since(&alice, &device(1), since).await?, count, "since {since}");
            }
            assert_eq!(tx.prekeys_since(&alice, &device(2), 0).await?, 0);
            assert_eq!(tx.prekeys_since(&account("bob"), &device(2), 0).await?, 1);
            // What was replaced before 2,100 is forgotten, what was then is not.
            tx.put_prekey(&prekey_of(1, 23, 3_000), 3_100, 2_100).await?;
            let mut marks = seen(tx.prekey_marks(&alice, 0).await?);
            marks.sort_unstable();
            assert_eq!(marks, [(1_000, false), (2_000, false), (3_000, true)]);
            assert_eq!(tx.prekey_marks(&account("bob"), 0).await?.len(), 1);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn passwords(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            tx.set_password(&account("alice"), &[9; 192]).await?;
            let row = tx.account(&account("alice")).await?.unwrap();
            assert_eq!((row.password, row.recovery_key), (Some(vec![9; 192]), Some(device_key(1))));
            assert_eq!(tx.account(&account("bob")).await?.unwrap().password, Some(vec![2; 192]));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn acquaintances(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob, carol] = ["alice", "bob", "carol"].map(account);
            assert_eq!(tx.acquaintances(&alice).await?, std::slice::from_ref(&bob), "by a room");
            assert_eq!(tx.acquaintances(&carol).await?, []);
            tx.insert_friends(&carol, &alice, 1).await?;
            tx.insert_friends(&alice, &bob, 1).await?;
            assert_eq!(tx.acquaintances(&alice).await?, [bob.clone(), carol.clone()], "each once");
            assert_eq!(tx.acquaintances(&carol).await?, std::slice::from_ref(&alice), "by friendship");
            // Who has gone from a room is told no more, and its members are not told of who has gone.
            tx.save_member(&ROOM, &member_row("carol", 0, None)).await?;
            assert_eq!(tx.acquaintances(&carol).await?, [alice.clone(), bob.clone()]);
            tx.save_member(&ROOM, &member_row("carol", 0, Some((3, 1)))).await?;
            assert_eq!(tx.acquaintances(&carol).await?, [alice]);
            assert_eq!(tx.acquaintances(&bob).await?, [account("alice")]);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn targets(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let room = room_row(ROOM);
            tx.save_room(&room).await?;
            for (name, gone) in [("bob", None), ("alice", None), ("carol", Some((3, 1)))] {
                tx.save_member(&room.id, &member_row(name, 0, gone)).await?;
            }
            tx.put_prekey(&prekey_of(1, 9, 5), 100, 0).await?;
            for replaced_after in [0, 100] {
                let targets = tx.targets(&room.id, replaced_after).await?;
                let names: Vec<_> = targets.iter().map(|target| target.account.as_str()).collect();
                assert_eq!(names, ["alice", "bob"], "in their order, and nobody who has gone");
                for target in targets {
                    assert_eq!(target.list, tx.standing(&target.account).await?.unwrap().list);
                    let marks = tx.prekey_marks(&target.account, replaced_after).await?;
                    assert_eq!(target.prekeys, marks);
                }
            }
            assert_eq!(tx.targets(&RoomId::from_bytes([99; 32]), 0).await?, []);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn sessions(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    let row = |expires_at| session_row("alice", 1, expires_at);
    write(&*store, move |tx| {
        Box::pin(async move {
            tx.put_session(&hash(1), &row(10)).await?;
            assert_eq!(tx.session(&hash(1)).await?, Some(row(10)));
            tx.renew_session(&hash(1), 20).await?;
            assert_eq!(tx.session(&hash(1)).await?, Some(row(20)));
            tx.put_session(&hash(2), &row(25)).await?;
            tx.extend_sessions(5).await?;
            assert_eq!(tx.session(&hash(2)).await?, Some(row(30)));
            tx.extend_sessions(u64::MAX).await?;
            assert!(tx.session(&hash(2)).await?.is_some_and(|session| session.expires_at > 30));
            tx.renew_session(&hash(1), 20).await?;
            tx.renew_session(&hash(2), 30).await?;
            assert_eq!(tx.last_at_work().await?, None);
            for at in [7, 6] {
                tx.note_at_work(at).await?;
                assert_eq!(tx.last_at_work().await?, Some(at));
            }
            let ended = |expires_at| SessionRow { ended: true, ..row(expires_at) };
            assert_eq!(tx.session(&hash(1)).await?, Some(ended(20)), "a device has one session");
            let alice = account("alice");
            assert_eq!(tx.sessions_of(&alice).await?, [row(30)]);
            assert!(tx.end_session(&alice, &device(1)).await?);
            assert!(!tx.end_session(&alice, &device(1)).await?, "it has ended already");
            assert_eq!(tx.session(&hash(2)).await?, Some(ended(30)));
            assert_eq!(tx.sessions_of(&alice).await?, []);
            // Those that have expired are forgotten when a new one begins, and no others.
            tx.put_session(&hash(3), &SessionRow { created_at: 20, ..row(50) }).await?;
            assert_eq!(tx.session(&hash(1)).await?, None);
            assert_eq!(tx.session(&hash(2)).await?, Some(ended(30)));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn sessions_are_swept(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            // Alice's second session ends her first.
            for (tag, name, byte, expires_at) in
                [(1, "alice", 1, 10), (2, "alice", 1, 30), (3, "bob", 2, 20), (4, "carol", 3, 40)]
            {
                tx.put_session(&hash(tag), &session_row(name, byte, expires_at)).await?;
            }
            assert_eq!(tx.sweep_sessions(10, 9).await?, 0, "the first expires at 10, and not before");
            assert_eq!(tx.sweep_sessions(31, 2).await?, 2);
            assert!(tx.session(&hash(1)).await?.is_none() && tx.session(&hash(3)).await?.is_none());
            assert_eq!(tx.session(&hash(2)).await?, Some(session_row("alice", 1, 30)), "the oldest go first");
            assert_eq!(tx.sweep_sessions(31, 2).await?, 1);
            assert_eq!(tx.sweep_sessions(31, 2).await?, 0);
            assert_eq!(tx.session(&hash(2)).await?, None);
            assert_eq!(tx.session(&hash(4)).await?, Some(session_row("carol", 3, 40)));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn prekeys_are_swept(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let alice = account("alice");
            // The one of the sign-up is replaced at 1,100, the next at 2,100, and so on.
            for (byte, at) in [(21, 1_000), (22, 2_000), (23, 3_000)] {
                tx.put_prekey(&prekey_of(1, byte, at), at + 100, 0).await?;
            }
            assert_eq!(tx.sweep_prekeys(1_100, 9).await?, 0);
            assert_eq!(tx.sweep_prekeys(3_101, 2).await?, 2);
            let mut made: Vec<_> =
                tx.prekey_marks(&alice, 0).await?.iter().map(|mark| mark.created_at).collect();
            made.sort_unstable();
            assert_eq!(made, [2_000, 3_000], "the oldest go first");
            assert_eq!(tx.sweep_prekeys(3_101, 2).await?, 1);
            assert_eq!(tx.sweep_prekeys(u64::MAX, 9).await?, 0, "current ones stay");
            assert_eq!(tx.keys(&alice).await?.unwrap().keys.prekeys, [prekey_of(1, 23, 3_000)]);
            assert_eq!(tx.prekey_marks(&account("bob"), 0).await?.len(), 1);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn requests_are_swept(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob, carol] = ["alice", "bob", "carol"].map(account);
            tx.insert_request(&carol, &bob, "", 6).await?;
            tx.insert_request(&alice, &bob, "", 5).await?;
            tx.insert_request(&bob, &carol, "", 7).await?;
            assert_eq!(tx.sweep_requests(5, 9).await?, 0);
            assert_eq!(tx.sweep_requests(7, 1).await?, 1);
            assert!(!tx.has_request(&alice, &bob).await? && tx.has_request(&carol, &bob).await?);
            assert_eq!(tx.sweep_requests(7, 1).await?, 1);
            assert_eq!(tx.sweep_requests(7, 1).await?, 0);
            assert!(!tx.has_request(&carol, &bob).await? && tx.has_request(&bob, &carol).await?);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

/// An invitation that nobody has used.
const fn invitation_row(expires_at: u64) -> InvitationRow {
    InvitationRow { created_at: 1, expires_at, used_by: None }
}

pub(crate) async fn invitations(place: &dyn Place) {
    let store = place.open().await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob] = ["alice", "bob"].map(account);
            for (tag, expires_at) in [(1, 10), (2, 20)] {
                tx.insert_invitation(&hash(tag), &invitation_row(expires_at)).await?;
            }
            assert_eq!(tx.invitation(&hash(1)).await?, Some(invitation_row(10)));
            assert_eq!(tx.invitation(&hash(3)).await?, None);
            assert!(!tx.use_invitation(&hash(3), &alice, 5).await?, "it is not there");
            assert!(!tx.use_invitation(&hash(1), &alice, 10).await?, "it has expired");
            assert!(tx.use_invitation(&hash(1), &alice, 9).await?);
            assert!(!tx.use_invitation(&hash(1), &bob, 9).await?, "it was used");
            let used = InvitationRow { used_by: Some(alice), ..invitation_row(10) };
            assert_eq!(tx.invitation(&hash(1)).await?, Some(used.clone()));
            assert_eq!(tx.invitation(&hash(2)).await?, Some(invitation_row(20)));
            assert!(!used.is_good(9) && invitation_row(10).is_good(9) && !invitation_row(10).is_good(10));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn invitations_are_swept(place: &dyn Place) {
    let store = place.open().await;
    write(&*store, |tx| {
        Box::pin(async move {
            for (tag, expires_at) in [(2, 20), (1, 10), (3, 30)] {
                tx.insert_invitation(&hash(tag), &invitation_row(expires_at)).await?;
            }
            tx.use_invitation(&hash(1), &account("alice"), 5).await?;
            assert_eq!(tx.sweep_invitations(10, 9).await?, 0);
            assert_eq!(tx.sweep_invitations(30, 1).await?, 1);
            assert!(tx.invitation(&hash(1)).await?.is_none(), "the oldest go first");
            assert_eq!(tx.sweep_invitations(30, 9).await?, 1);
            assert_eq!(tx.sweep_invitations(30, 9).await?, 0);
            assert_eq!(tx.invitation(&hash(3)).await?, Some(invitation_row(30)));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn presence(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob, carol] = ["alice", "bob", "carol"].map(account);
            tx.insert_friends(&alice, &bob, 1).await?;
            tx.insert_friends(&carol, &alice, 1).await?;
            assert_eq!(tx.watchers(&alice).await?, [bob.clone(), carol.clone()]);
            assert_eq!(tx.watchers(&bob).await?, std::slice::from_ref(&alice));
            tx.set_hidden(&bob, true).await?;
            assert!(tx.is_hidden(&bob).await? && !tx.is_hidden(&alice).await?);
            assert_eq!(tx.watchers(&bob).await?, []);
            assert_eq!(tx.watchers(&alice).await?, std::slice::from_ref(&carol));
            tx.set_hidden(&bob, false).await?;
            assert_eq!(tx.watchers(&alice).await?, [bob, carol]);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

fn session_row(name: &str, byte: u8, expires_at: u64) -> SessionRow {
    SessionRow { account: account(name), device: device(byte), created_at: 1, expires_at, ended: false }
}

pub(crate) async fn friends(place: &dyn Place) {
    let store = place.open().await;
    insert_people(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob, carol] = ["alice", "bob", "carol"].map(account);
            tx.insert_request(&alice, &bob, "안녕", 5).await?;
            assert!(tx.has_request(&alice, &bob).await? && !tx.has_request(&bob, &alice).await?);
            let (to, from) = (tx.requests_to(&bob).await?, tx.requests_from(&alice).await?);
            assert_eq!((to[0].nickname.as_str(), from[0].nickname.as_str()), ("alice 님", ""));
            assert_eq!((to[0].greeting.as_str(), to[0].requested_at), ("안녕", 5));
            assert_eq!((&to[0].account, &from[0].account), (&alice, &bob));
            assert!(tx.delete_request(&alice, &bob).await?);
            assert!(!tx.delete_request(&alice, &bob).await?);
            tx.insert_friends(&alice, &bob, 6).await?;
            tx.insert_friends(&carol, &alice, 7).await?;
            assert_eq!(tx.friends_since(&bob, &alice).await?, Some(6));
            assert_eq!(tx.friends_since(&bob, &carol).await?, None);
            let friends = tx.friends(&alice).await?;
            let names: Vec<_> = friends.iter().map(|friend| friend.nickname.as_str()).collect();
            assert_eq!(names, ["bob 님", "carol 님"]);
            assert_eq!((tx.friend_count(&alice).await?, tx.friend_count(&bob).await?), (2, 1));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn rooms(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob] = ["alice", "bob"].map(account);
            assert_eq!(tx.room(&ROOM).await?, Some(room_row(ROOM)));
            let moved = RoomRow {
                version: 2,
                head: hash(2),
                epoch: 3,
                epoch_hash: Some(hash(4)),
                epoch_version: 2,
                end: LogPosition { seq: 5, hash: hash(6) },
                closed: true,
                ..room_row(ROOM)
            };
            tx.save_room(&moved).await?;
            assert_eq!(tx.room(&ROOM).await?, Some(moved.clone()));
            assert_eq!(tx.room(&RoomId::from_bytes([1; 32])).await?, None);

            tx.name_direct_room(&bob, &alice, &ROOM).await?;
            assert_eq!(tx.direct_room(&alice, &bob).await?, Some(ROOM));
            assert_eq!(tx.direct_room(&bob, &alice).await?, Some(ROOM));
            let next = RoomId::from_bytes([7; 32]);
            tx.save_room(&room_row(next)).await?;
            tx.name_direct_room(&alice, &bob, &next).await?;
            assert_eq!(tx.direct_room(&bob, &alice).await?, Some(next));
            tx.name_direct_room(&alice, &bob, &ROOM).await?;

            let names = |rows: &[MemberRow]| -> Vec<String> {
                rows.iter().map(|row| row.member.account.to_string()).collect()
            };
            assert_eq!(names(&tx.members(&ROOM).await?), ["alice", "bob"]);
            let gone = member_row("bob", 0, Some((4, 2)));
            tx.save_member(&ROOM, &gone).await?;
            assert_eq!(tx.member(&ROOM, &bob).await?, Some(gone.clone()));
            assert_eq!(names(&tx.members(&ROOM).await?), ["alice"]);
            assert_eq!(tx.rooms_of(&bob).await?, [(moved, gone)]);
            assert_eq!((tx.room_count(&alice).await?, tx.room_count(&bob).await?), (1, 0));

            let membership = Membership::created(&created()).unwrap();
            assert_eq!(tx.membership(&ROOM).await?, None);
            tx.save_room(&room_row(membership.room())).await?;
            tx.save_membership(&membership).await?;
            tx.save_membership(&membership).await?;
            assert_eq!(tx.membership(&membership.room()).await?, Some(membership));
            Ok(())
        })
    })
    .await;
    store.close().await;
}

fn created() -> RoomChange {
    let owner = Member { account: account("alice"), identity: hash(9), role: Role::Owner };
    RoomChange {
        room: None,
        previous: None,
        change: Change::Created {
            nonce: hash(1),
            kind: RoomKind::Group,
            suite: Suite::Mildam1,
            members: vec![owner],
            replaces: None,
        },
        ..change(1)
    }
}

pub(crate) async fn have_met(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let [alice, bob, carol] = ["alice", "bob", "carol"].map(account);
            assert!(tx.have_met(&alice, &bob).await?);
            assert!(!tx.have_met(&alice, &carol).await?);
            // Bob goes by entry 5. Who comes by it or later never was there with him.
            tx.save_member(&ROOM, &member_row("bob", 0, Some((5, 1)))).await?;
            tx.save_member(&ROOM, &member_row("carol", 5, None)).await?;
            assert!(!tx.have_met(&bob, &carol).await? && !tx.have_met(&carol, &bob).await?);
            tx.save_member(&ROOM, &member_row("carol", 3, None)).await?;
            assert!(tx.have_met(&bob, &carol).await? && tx.have_met(&carol, &bob).await?);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn entries(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let snapshot = Membership::created(&created()).unwrap().snapshot();
            for seq in 1..=5 {
                let snapshot = (seq == 3).then(|| snapshot.clone());
                tx.insert_entry(&ROOM, &EntryRow { snapshot, ..entry_row(seq) }).await?;
            }
            let third = StoredAnswer { seq: 3, stored_at: 1003 };
            assert_eq!(tx.find_entry(&ROOM, &entry_row(3).hash).await?, Some(third));
            assert_eq!(tx.find_entry(&ROOM, &hash(0)).await?, None);
            assert_eq!(tx.log_hash(&ROOM, 5).await?, Some(hash(55)));
            for beyond in [0, 6, u64::MAX] {
                assert_eq!(tx.log_hash(&ROOM, beyond).await?, None);
            }
            let range = EntryRange { after: 1, to: 4, limit: 10, joined_by: 0 };
            let seen = |items: &[LogItem]| -> Vec<(u64, bool)> {
                items
                    .iter()
                    .map(|item| match item {
                        LogItem::Entry { seq, entry, snapshot, .. } => {
                            assert_eq!(*entry, entry_row(*seq).entry);
                            (*seq, snapshot.is_some())
                        }
                        LogItem::Epoch { .. } => panic!("no epoch was asked for"),
                    })
                    .collect()
            };
            let read = tx.entries(&ROOM, range).await?;
            assert_eq!(seen(&read), [(2, false), (3, false), (4, false)]);
            let joiner = EntryRange { joined_by: 3, limit: 2, ..range };
            assert_eq!(seen(&tx.entries(&ROOM, joiner).await?), [(2, false), (3, true)]);
            let nothing = EntryRange { after: u64::MAX, ..range };
            assert!(tx.entries(&ROOM, nothing).await?.is_empty());
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn messages(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let id = |byte| ClientMessageId::from_bytes([byte; 16]);
            for (seq, epoch, n) in [(1, 1, 0), (2, 1, 7), (3, 2, 0)] {
                tx.insert_entry(&ROOM, &entry_row(seq)).await?;
                let place = MessagePlace { epoch, n, seq };
                tx.insert_message(&ROOM, &device(1), &id(seq as u8), place).await?;
            }
            let second = StoredAnswer { seq: 2, stored_at: 1002 };
            assert_eq!(tx.find_message(&ROOM, &device(1), &id(2)).await?, Some(second));
            assert_eq!(tx.find_message(&ROOM, &device(2), &id(2)).await?, None);
            assert_eq!(tx.last_n(&ROOM, &device(1), 1).await?, Some(7));
            assert_eq!(tx.last_n(&ROOM, &device(1), 2).await?, Some(0));
            assert_eq!(tx.last_n(&ROOM, &device(1), 3).await?, None);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

fn wrap(name: &str, byte: u8) -> Wrap {
    Wrap {
        account: account(name),
        device: device(byte),
        prekey: hash(byte),
        rsa: Bytes(vec![byte; 384]),
        kem: Bytes(vec![byte; 1120]),
        key: Bytes(vec![byte; 48]),
    }
}

fn epoch_row(epoch: u64, after_seq: u64) -> EpochRow {
    let announcement = EpochAnnouncement {
        room: ROOM,
        epoch,
        previous: None,
        announcer: account("alice"),
        announcer_device: device(1),
        version: 1,
        head: hash(1),
        seen_seq: 0,
        seen_hash: Hash::ZERO,
        recipients: Vec::new(),
        profile: None,
        commitment: hash(2),
        signature: SIGNATURE,
    };
    EpochRow {
        hash: announcement.hash(),
        announcement,
        after_seq,
        wraps: [wrap("alice", 1), wrap("bob", 2)].iter().filter_map(WrapRow::new).collect(),
        profile: (epoch == 1).then(|| SealedProfile(Bytes(vec![5; 60]))),
        stored_at: 2000 + epoch,
    }
}

pub(crate) async fn epochs(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            for (epoch, after) in [(1, 1), (2, 4), (3, 4)] {
                tx.insert_epoch(&epoch_row(epoch, after)).await?;
            }
            let found = StoredAnswer { seq: 4, stored_at: 2002 };
            assert_eq!(tx.find_epoch(&ROOM, &epoch_row(2, 4).hash).await?, Some(found));
            assert_eq!(tx.find_epoch(&ROOM, &hash(0)).await?, None);
            assert_eq!(tx.epoch_time(&ROOM, 3).await?, Some(2003));
            assert_eq!(tx.epoch_time(&ROOM, 0).await?, None);
            let all = EpochRange { after: 0, to: 9, behind: 0, limit: 9 };
            let items = tx.epochs(&ROOM, &device(2), all).await?;
            assert_eq!(items.len(), 3);
            let first = LogItem::Epoch {
                after: 1,
                stored_at: 2001,
                announcement: Box::new(epoch_row(1, 1).announcement),
                wrap: Some(Box::new(wrap("bob", 2))),
                profile: epoch_row(1, 1).profile,
            };
            assert_eq!(items[0], first);
            let left_out = tx.epochs(&ROOM, &device(3), all).await?;
            assert!(matches!(left_out[..], [LogItem::Epoch { wrap: None, .. }, ..]));
            for (range, expected) in [
                (EpochRange { after: 1, ..all }, 2),
                (EpochRange { to: 2, ..all }, 2),
                (EpochRange { behind: 1, ..all }, 2),
                (EpochRange { behind: 4, ..all }, 0),
                (EpochRange { limit: 1, ..all }, 1),
            ] {
                assert_eq!(tx.epochs(&ROOM, &device(1), range).await?.len(), expected, "{range:?}");
            }
            Ok(())
        })
    })
    .await;
    store.close().await;
}

pub(crate) async fn receipts(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    write(&*store, |tx| {
        Box::pin(async move {
            let receipt = |kind, seq| Receipt {
                room: ROOM,
                kind,
                seq,
                hash: hash(1),
                account: account("bob"),
                device: device(2),
                signature: SIGNATURE,
            };
            let (delivered, read) = (ReceiptKind::Delivered, ReceiptKind::Read);
            for receipt in [receipt(delivered, 3), receipt(read, 2), receipt(delivered, 5)] {
                tx.put_receipt(&receipt).await?;
            }
            assert_eq!(tx.receipts(&ROOM).await?, [receipt(delivered, 5), receipt(read, 2)]);
            assert_eq!(tx.receipt_seq(&ROOM, &account("bob"), delivered).await?, Some(5));
            assert_eq!(tx.receipt_seq(&ROOM, &account("alice"), read).await?, None);
            Ok(())
        })
    })
    .await;
    store.close().await;
}

/// A work that adds an account and then ends as told.
fn sign_up(name: &'static str, byte: u8, end: Result<(), Code>) -> Work {
    Box::new(move |tx| {
        Box::pin(async move {
            tx.insert_account(&new_account(name, byte)).await?;
            end.map_err(|code| Refusal::new(code, "no"))?;
            Ok(Committed::default())
        })
    })
}

async fn exists(store: &dyn Store, name: &'static str) -> bool {
    read(store, move |tx| Box::pin(async move { Ok(tx.standing(&account(name)).await?.is_some()) })).await
}

pub(crate) async fn refusals_undo_their_own_work_only(place: &dyn Place) {
    let store = place.open().await;
    let (alice, bob, carol) = tokio::join!(
        commit(&*store, sign_up("alice", 1, Ok(()))),
        commit(&*store, sign_up("bob", 2, Err(Code::Forbidden))),
        commit(&*store, sign_up("carol", 3, Ok(()))),
    );
    assert!(alice.is_ok() && carol.is_ok());
    assert!(matches!(bob, Err(Rejection::Refused(refusal)) if refusal.code == Code::Forbidden));
    assert!(exists(&*store, "alice").await && exists(&*store, "carol").await);
    assert!(!exists(&*store, "bob").await);
    store.close().await;
}

pub(crate) async fn conflicts_harm_nobody_else(place: &dyn Place) {
    let store = place.open().await;
    let (alice, again, carol) = tokio::join!(
        commit(&*store, sign_up("alice", 1, Ok(()))),
        commit(&*store, sign_up("alice", 1, Ok(()))),
        commit(&*store, sign_up("carol", 3, Ok(()))),
    );
    assert!(alice.is_ok() && carol.is_ok());
    assert!(matches!(again, Err(Rejection::Store(StoreError::Conflict))));
    assert!(exists(&*store, "alice").await && exists(&*store, "carol").await);
    store.close().await;
}

pub(crate) async fn works_settle_in_the_order_of_their_commits(place: &dyn Place) {
    let store = place.open().await;
    insert_room(&*store).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..300 {
        let (put, got) = oneshot::channel();
        let work: Work = Box::new(move |tx| {
            Box::pin(async move {
                let mut room = tx.room(&ROOM).await?.unwrap();
                room.end.seq += 1;
                tx.save_room(&room).await?;
                put.send(room.end.seq).unwrap();
                Ok(Committed::default())
            })
        });
        let order = Arc::clone(&order);
        let mut got = got;
        let settle = Box::new(move |outcome: Result<Committed, Rejection>| {
            outcome.unwrap();
            order.lock().unwrap().push(got.try_recv().unwrap());
        });
        store.write(super::Turn::of_relay(), work, settle).await.unwrap();
    }
    store.close().await;
    assert_eq!(*order.lock().unwrap(), (1..=300).collect::<Vec<_>>());
}

pub(crate) async fn reading_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    // Whether it is refused or undone is the store's affair.
    let _ = store.read(sign_up("alice", 1, Ok(()))).await;
    assert!(!exists(&*store, "alice").await);
    assert!(commit(&*store, sign_up("alice", 1, Ok(()))).await.is_ok());
    store.close().await;
}

pub(crate) async fn what_was_settled_is_durable(place: &dyn Place) {
    let store = place.open().await;
    commit(&*store, sign_up("alice", 1, Ok(()))).await.unwrap();
    store.close().await;
    let closed = commit(&*store, sign_up("bob", 2, Ok(()))).await;
    assert!(matches!(closed, Err(Rejection::Store(_))));
    drop(store);
    let store = place.open().await;
    assert!(exists(&*store, "alice").await && !exists(&*store, "bob").await);
    store.close().await;
}
