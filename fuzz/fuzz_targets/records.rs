//! Every signed record, and what is made of it: canonical bytes, hashes, checks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mildam_fuzz::json_reads_back;
use mildam_records::{
    Certificate, DeviceList, EpochAnnouncement, LogItem, LogPosition, Member, Membership, Message, Receipt,
    RoomChange, SealedProfile, SignedPreKey, Snapshot, Wrap,
};

fuzz_target!(|json: &[u8]| {
    if let Some(certificate) = json_reads_back::<Certificate>(json) {
        let _ = certificate.verify();
    }
    if let Some(list) = json_reads_back::<DeviceList>(json) {
        let _ = list.hash();
    }
    if let Some(prekey) = json_reads_back::<SignedPreKey>(json) {
        let _ = prekey.signed_bytes();
    }
    if let Some(change) = json_reads_back::<RoomChange>(json)
        && let Ok(room) = Membership::created(&change)
    {
        // A change never follows itself.
        assert!(room.after(&change).is_err());
    }
    if let Some(snapshot) = json_reads_back::<Snapshot>(json) {
        let _ = snapshot.hash();
    }
    if let Some(announcement) = json_reads_back::<EpochAnnouncement>(json) {
        let _ = announcement.hash();
    }
    if let Some(message) = json_reads_back::<Message>(json) {
        let _ = message.hash();
    }
    if let Some(receipt) = json_reads_back::<Receipt>(json) {
        let _ = receipt.signed_bytes();
    }
    json_reads_back::<Member>(json);
    json_reads_back::<LogItem>(json);
    json_reads_back::<LogPosition>(json);
    json_reads_back::<SealedProfile>(json);
    json_reads_back::<Wrap>(json);
});
