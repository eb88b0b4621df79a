//! An account's devices: their prekeys, and who is on the list.

use std::collections::BTreeSet;

use mildam_protocol::command::{DevicesSet, Done, MAX_DEVICES, PreKeyReplace};
use mildam_protocol::records::id::{AccountId, DeviceId};
use mildam_protocol::records::{AccountKeys, DeviceList, ListSigner, SignedPreKey};
use mildam_protocol::{Code, Event, Refusal};

use super::{Scene, done, internal, news, tell};
use crate::broker::{Address, Devices, News};
use crate::rules::{bad_record, require, stale};
use crate::store::{Committed, Rejection, Transaction};

/// Prekeys and lists are counted over so many milliseconds: a day.
pub(super) const DAY: u64 = 24 * 60 * 60 * 1_000;

/// `prekey_replace`. The same again changes nothing.
pub(super) async fn replace_prekey(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: PreKeyReplace,
) -> Result<Committed, Rejection> {
    let prekey = command.prekey;
    let Scene { caller, now, limits } = scene;
    let own = prekey.account == caller.account && prekey.device == caller.device;
    require(own, Code::BadRecord, "a prekey is sent by the device that signed it")?;
    check_time(&prekey, now)?;
    let listed = tx.device_key(&caller.account, &caller.device).await?.is_some();
    if !listed {
        return Err(super::unlisted().into());
    }
    let hash = prekey.public.hash();
    let mut kept = tx.prekey_marks(&caller.account, 0).await?;
    kept.retain(|mark| mark.device == caller.device);
    if let Some(present) = kept.iter().find(|mark| mark.current) {
        if present.hash == hash && present.created_at == prekey.created_at {
            return done(&Done {});
        }
        if prekey.created_at <= present.created_at {
            return Err(stale("this device's prekey").into());
        }
    }
    let used = kept.iter().any(|mark| mark.hash == hash);
    require(!used, Code::BadRecord, "this prekey was in use before: make a new one")?;
    let count = tx.prekeys_since(&caller.account, &caller.device, now.saturating_sub(DAY)).await?;
    require(count < limits.prekeys_a_day, Code::LimitReached, "a device may have 24 prekeys a day")?;
    tx.put_prekey(&prekey, now, now.saturating_sub(DAY)).await?;
    done(&Done {})
}

/// Checks that a prekey is not ahead of time: no later one could take its place, and its device
/// would never count as away.
pub(super) fn check_time(prekey: &SignedPreKey, now: u64) -> Result<(), Refusal> {
    let not_yet = prekey.created_at > now.saturating_add(DAY);
    require(!not_yet, Code::BadRecord, "this prekey is of tomorrow: is your clock right?")
}

/// `devices_set`. The same list again changes nothing.
pub(super) async fn set(
    tx: &mut dyn Transaction,
    scene: Scene,
    command: DevicesSet,
) -> Result<Committed, Rejection> {
    let list = command.device_list;
    let Scene { caller, now, limits } = scene;
    require(list.certificates.len() <= MAX_DEVICES, Code::LimitReached, "an account may have 16 devices")?;
    let (identity, newest) = tx.newest_list(&caller.account).await?.ok_or_else(internal)?;
    if newest == list {
        return done(&Done {});
    }
    let own = list.account == caller.account && list.signer == ListSigner::Device(caller.device);
    require(own, Code::BadRecord, "a list is sent by the device that signed it")?;
    let follows = newest.generation == list.generation
        && newest.version.checked_add(1) == Some(list.version)
        && list.previous == Some(newest.hash());
    if !follows {
        return Err(stale("your own device list").into());
    }
    let count = tx.lists_since(&caller.account, now.saturating_sub(DAY)).await?;
    require(count < limits.lists_a_day, Code::LimitReached, "the list may change 24 times a day")?;
    list.verify(&identity, Some(&newest)).map_err(|error| bad_record(&error))?;
    let told = put_list(tx, &list, now).await?;
    tell(&Done {}, told)
}

/// Saves a list that was judged. Sessions of devices that are not in it end.
pub(super) async fn put_list(
    tx: &mut dyn Transaction,
    list: &DeviceList,
    now: u64,
) -> Result<Vec<News>, Rejection> {
    let account = &list.account;
    let gone = tx.removed_devices(account).await?;
    let returning = list.certificates.iter().any(|certificate| gone.contains(&certificate.device));
    require(!returning, Code::BadRecord, "a device that was taken off the list does not come back")?;
    let removed = tx.put_list(list, now).await?;
    let mut told = Vec::new();
    for device in removed {
        let gone = Address { account: account.clone(), devices: Devices::Only(device) };
        told.push(News { last: true, ..news(vec![gone], &Event::DeviceRemoved {})? });
    }
    told.push(keys_changed(tx, account).await?);
    Ok(told)
}

/// Tells everybody who may know of an account that its keys have changed.
async fn keys_changed(tx: &mut dyn Transaction, account: &AccountId) -> Result<News, Rejection> {
    let mut audience: BTreeSet<AccountId> = tx.acquaintances(account).await?.into_iter().collect();
    audience.insert(account.clone());
    let event = Event::KeysChanged { account: account.clone() };
    Ok(news(audience.into_iter().map(Address::all).collect(), &event)?)
}

/// The one device of a list that begins a generation.
///
/// # Errors
/// [`Code::BadRecord`] for more or fewer.
pub(super) fn only_device(list: &DeviceList) -> Result<DeviceId, Refusal> {
    match list.certificates.as_slice() {
        [only] if list.version == 1 => Ok(only.device),
        _ => Err(Refusal::new(Code::BadRecord, "a generation begins with one device, in version 1")),
    }
}

/// The keys as they would be with one more list.
pub(super) fn with_list(mut keys: AccountKeys, list: DeviceList) -> AccountKeys {
    keys.prekeys.clear();
    keys.lists.push(list);
    keys
}
