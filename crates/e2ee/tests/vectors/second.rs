//! A second implementation of docs/e2ee.md, written from that text: it knows JSON and primitives
//! only, verifies the records and computes every value that is derived from them.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use rsa::signature::Verifier;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey, pss};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x_wing::{Decapsulate, DecapsulationKey};

/// A field of canonical bytes.
#[derive(Clone)]
enum Field {
    Bytes(Vec<u8>),
    Optional(Option<Vec<u8>>),
    List(Vec<Vec<Field>>),
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn join(fields: &[Field]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|one| match one {
            Field::Bytes(bytes) => field(bytes),
            Field::Optional(None) => vec![0],
            Field::Optional(Some(bytes)) => [vec![1], field(bytes)].concat(),
            Field::List(elements) => {
                let inner = elements.iter().flat_map(|element| field(&join(element)));
                (elements.len() as u32).to_be_bytes().into_iter().chain(inner).collect()
            }
        })
        .collect()
}

fn t(label: &str, fields: &[Field]) -> Vec<u8> {
    [field(label.as_bytes()), join(fields)].concat()
}

fn raw(bytes: &[u8]) -> Field {
    Field::Bytes(bytes.to_vec())
}

/// A byte string of a record.
fn b(value: &Value) -> Field {
    Field::Bytes(decode(value))
}

/// A text of a record.
fn s(value: &Value) -> Field {
    Field::Bytes(value.as_str().unwrap().as_bytes().to_vec())
}

/// An integer of a record.
fn n(value: &Value) -> Field {
    integer(value.as_u64().unwrap())
}

fn integer(number: u64) -> Field {
    Field::Bytes(number.to_be_bytes().to_vec())
}

/// An optional byte string of a record.
fn o(value: &Value) -> Field {
    Field::Optional((!value.is_null()).then(|| decode(value)))
}

fn decode(value: &Value) -> Vec<u8> {
    BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn e(bytes: impl AsRef<[u8]>) -> Value {
    BASE64URL_NOPAD.encode(bytes.as_ref()).into()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key)
        .unwrap()
        .chain_update(message)
        .finalize()
        .into_bytes()
        .to_vec()
}

fn hkdf(salt: &[u8], ikm: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let mut okm = vec![0; length];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut okm).unwrap();
    okm
}

fn open(key: &[u8], iv: &[u8], sealed: &[u8], aad: &[u8]) -> Vec<u8> {
    let iv: &[u8; 12] = iv.try_into().unwrap();
    Aes256Gcm::new_from_slice(key).unwrap().decrypt(iv.into(), Payload { msg: sealed, aad }).unwrap()
}

fn unpad(padded: &[u8]) -> &[u8] {
    let end = padded.iter().rposition(|byte| *byte != 0).unwrap();
    assert_eq!(padded[end], 0x80);
    assert_eq!(padded.len(), padme(end + 1));
    &padded[..end]
}

/// Padmé with a floor, by its definition: the low `E - S` bits of the length become zero.
fn padme(length: usize) -> usize {
    let floor_log = |x: usize| (usize::BITS - 1 - x.leading_zeros()) as usize;
    let exponent = floor_log(length.max(2));
    let step = 1 << exponent.saturating_sub(floor_log(exponent) + 1);
    length.max(256).div_ceil(step) * step
}

fn verify_ed25519(key: &Value, signed: &[u8], signature: &Value) {
    let key: [u8; 32] = decode(key).try_into().unwrap();
    let signature: [u8; 64] = decode(signature).try_into().unwrap();
    VerifyingKey::from_bytes(&key)
        .unwrap()
        .verify_strict(signed, &Signature::from_bytes(&signature))
        .unwrap();
}

fn verify_pss(spki: &[u8], signed: &[u8], signature: &[u8]) {
    let key = RsaPublicKey::from_public_key_der(spki).unwrap();
    let signature = pss::Signature::try_from(signature).unwrap();
    pss::VerifyingKey::<Sha256>::new_with_salt_len(key, 32).verify(signed, &signature).unwrap();
}

/// Adds to the story every value that follows from it.
pub(crate) fn explain(told: Value) -> Value {
    let (alice, bob) = (&told["accounts"]["alice"], &told["accounts"]["bob"]);
    let (alice_derived, bob_derived) = (account(alice), account(bob));
    let mut vectors = json!({
        "about": "A conversation between two accounts, from fixed keys that are used nowhere else: \
            private keys, the records made with them, and, under \"derived\", every value that follows. \
            Byte strings are base64url without padding; see docs/e2ee.md, section 14.",
        "canonical": canonical(),
        "padding": padding(),
        "safety_number": safety_number(&[(alice, &alice_derived), (bob, &bob_derived)]),
        "room": {
            "derived": room(&told, &[("alice", &alice_derived), ("bob", &bob_derived)]),
        },
        "accounts": { "alice": { "derived": alice_derived }, "bob": { "derived": bob_derived } },
    });
    merge(&mut vectors, &told);
    vectors
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn canonical() -> Value {
    json!([
        { "label": "mildam/example/v1", "fields": [], "bytes": e(t("mildam/example/v1", &[])) },
        {
            "label": "mildam/example/v1",
            "fields": [{ "text": "밀담" }, { "integer": 258 }, { "bytes": "AAH_" }],
            "bytes": e(t("mildam/example/v1", &[raw("밀담".as_bytes()), integer(258), raw(&[0, 1, 255])])),
        },
        {
            "label": "mildam/example/v1",
            "fields": [
                { "optional": null },
                { "optional": "eA" },
                { "list": [[{ "text": "a" }, { "integer": 1 }], []] },
            ],
            "bytes": e(t("mildam/example/v1", &[
                Field::Optional(None),
                Field::Optional(Some(b"x".to_vec())),
                Field::List(vec![vec![raw(b"a"), integer(1)], vec![]]),
            ])),
        },
    ])
}

/// Lengths of contents and what they become with the mark, and one content in full.
fn padding() -> Value {
    let lengths = [0, 1, 255, 256, 300, 511, 512, 1000, 1024, 4000, 10_000, 65_000, 90_000];
    let lengths: Vec<Value> =
        lengths.iter().map(|length| json!({ "content": length, "padded": padme(length + 1) })).collect();
    let content = "밀담".as_bytes();
    let mut padded = [content, &[0x80]].concat();
    padded.resize(256, 0);
    json!({ "lengths": lengths, "example": { "content": e(content), "padded": e(padded) } })
}

fn account(told: &Value) -> Value {
    let (keys, private) = (&told["keys"], &told["private"]);
    let name = s(&keys["account"]);
    let spki = |key: &Value| {
        let key = RsaPrivateKey::from_pkcs8_der(&decode(key)).unwrap();
        key.to_public_key().to_public_key_der().unwrap().as_bytes().to_vec()
    };
    let identity = spki(&private["identity_key"]);
    assert_eq!(identity, decode(&keys["identity_key"]));
    let fingerprint = sha256(&t("mildam/identity/v1", &[raw(&identity)]));

    let list = &keys["lists"][0];
    let certificate = &list["certificates"][0];
    assert_eq!(spki(&private["wrap_key"]), decode(&certificate["wrap_key"]));
    let seed: [u8; 32] = decode(&private["device_key"]).try_into().unwrap();
    let device_key = SigningKey::from_bytes(&seed).verifying_key();
    assert_eq!(device_key.as_bytes().to_vec(), decode(&certificate["device_key"]));
    let device_id = sha256(&t(
        "mildam/device-id/v1",
        &[name.clone(), b(&certificate["wrap_key"]), b(&certificate["device_key"])],
    ));
    assert_eq!(device_id[..16], decode(&certificate["device"]));

    let certificate_bytes = t(
        "mildam/certificate/v1",
        &[
            s(&certificate["account"]),
            b(&certificate["device"]),
            b(&certificate["wrap_key"]),
            b(&certificate["device_key"]),
            n(&certificate["created_at"]),
        ],
    );
    verify_ed25519(&certificate["device_key"], &certificate_bytes, &certificate["signature"]);
    let list_bytes = t(
        "mildam/device-list/v1",
        &[
            s(&list["account"]),
            b(&list["identity"]),
            n(&list["generation"]),
            n(&list["version"]),
            o(&list["previous"]),
            Field::List(vec![vec![raw(&certificate_bytes), b(&certificate["signature"])]]),
            Field::Optional(None),
        ],
    );
    assert_eq!((decode(&list["identity"]), &list["signer"]), (fingerprint.clone(), &json!("identity")));
    verify_pss(&identity, &list_bytes, &decode(&list["signature"]));
    let hash = sha256(&t("mildam/device-list-hash/v1", &[raw(&list_bytes), b(&list["signature"])]));

    let prekey = &keys["prekeys"][0];
    let prekey_bytes = t(
        "mildam/prekey/v1",
        &[s(&prekey["account"]), b(&prekey["device"]), b(&prekey["public"]), n(&prekey["created_at"])],
    );
    verify_ed25519(&certificate["device_key"], &prekey_bytes, &prekey["signature"]);

    let login = &told["login"];
    let login_bytes =
        t("mildam/login/v1", &[name.clone(), b(&certificate["device"]), b(&login["transcript"])]);
    verify_ed25519(&certificate["device_key"], &login_bytes, &login["proof"]);

    json!({
        "identity_fingerprint": e(&fingerprint),
        "wrap_key_fingerprint": e(sha256(&t("mildam/wrap-key/v1", &[b(&certificate["wrap_key"])]))),
        "certificate_bytes": e(certificate_bytes),
        "list_bytes": e(list_bytes),
        "list_hash": e(&hash),
        "prekey_bytes": e(prekey_bytes),
        "prekey_hash": e(sha256(&decode(&prekey["public"]))),
        "login_bytes": e(login_bytes),
        "recovery": recovery(told, &name, &fingerprint, &hash),
    })
}

fn recovery(told: &Value, name: &Field, fingerprint: &[u8], list_hash: &[u8]) -> Value {
    let words = told["recovery"]["english"].as_array().unwrap();
    let list = bip39::Language::English.word_list();
    // 12 words of 11 bits each: 128 bits of entropy, 4 of its SHA-256.
    let bits = words.iter().fold(Vec::new(), |mut bits, word| {
        let index = list.iter().position(|known| *known == word.as_str().unwrap()).unwrap();
        bits.extend((0..11).rev().map(|bit| (index >> bit) & 1 == 1));
        bits
    });
    let entropy: Vec<u8> = bits[..128]
        .chunks(8)
        .map(|byte| byte.iter().fold(0, |byte, bit| (byte << 1) | u8::from(*bit)))
        .collect();
    let check = bits[128..].iter().fold(0, |check, bit| (check << 1) | u8::from(*bit));
    assert_eq!(check, sha256(&entropy)[0] >> 4);
    let key =
        hkdf(b"mildam/recovery/v1", &entropy, &t("mildam/recovery-key/v1", std::slice::from_ref(name)), 32);
    let aad = t("mildam/sealed-identity/v1", &[name.clone(), raw(fingerprint)]);
    let sealed = decode(&told["recovery"]["sealed_identity"]);
    assert_eq!(sealed[0], 1);
    assert_eq!(open(&key, &sealed[1..13], &sealed[13..], &aad), decode(&told["private"]["identity_key"]));

    let auth = "mildam/recovery-auth/v1";
    let seed = hkdf(auth.as_bytes(), &entropy, &t(auth, std::slice::from_ref(name)), 32);
    let public = SigningKey::from_bytes(&seed.clone().try_into().unwrap()).verifying_key();
    let said = &told["recovery"];
    assert_eq!(public.as_bytes().to_vec(), decode(&said["recovery_key"]));
    let recover_bytes = t("mildam/recover/v1", &[name.clone(), b(&said["transcript"])]);
    verify_ed25519(&said["recovery_key"], &recover_bytes, &said["proof"]);
    let certificate = &told["keys"]["lists"][0]["certificates"][0];
    let recovered_bytes = t(
        "mildam/recovered/v1",
        &[
            name.clone(),
            b(&certificate["device"]),
            b(&said["transcript"]),
            raw(&sha256(&decode(&said["password_record"]))),
            raw(list_hash),
        ],
    );
    verify_ed25519(&certificate["device_key"], &recovered_bytes, &said["recovered_proof"]);
    json!({
        "entropy": e(entropy),
        "key": e(key),
        "aad": e(aad),
        "auth_seed": e(seed),
        "recover_bytes": e(recover_bytes),
        "recovered_bytes": e(recovered_bytes),
    })
}

fn safety_number(two: &[(&Value, &Value); 2]) -> Value {
    let label = "mildam/safety-number/v1";
    let fields: Vec<Field> = two
        .iter()
        .flat_map(|(told, derived)| [s(&told["keys"]["account"]), b(&derived["identity_fingerprint"])])
        .collect();
    let material = t(label, &fields);
    let bytes = hkdf(label.as_bytes(), &material, &t(label, &[]), 60);
    let groups: Vec<String> = bytes
        .chunks(5)
        .map(|five| five.iter().fold(0_u64, |number, byte| number * 256 + u64::from(*byte)))
        .map(|number| format!("{:05}", number % 100_000))
        .collect();
    json!({ "material": e(material), "bytes": e(bytes), "digits": groups.join(" ") })
}

fn room(told: &Value, people: &[(&str, &Value); 2]) -> Value {
    let room = &told["room"];
    let log = &room["log"];
    let change = &log[0]["entry"]["entry"]["change"];
    let announcement = &log[1]["epoch"]["announcement"];
    let device_key =
        |name: &str| &told["accounts"][name]["keys"]["lists"][0]["certificates"][0]["device_key"];

    let change_bytes = created_bytes(change);
    verify_ed25519(device_key("alice"), &change_bytes, &change["signature"]);
    let change_hash =
        sha256(&t("mildam/room-change-hash/v1", &[raw(&change_bytes), b(&change["signature"])]));
    assert_eq!(change_hash, decode(&room["id"]));
    let log_hash = |seq: u64, previous: &[u8], entry: &[u8]| {
        sha256(&t("mildam/log/v1", &[b(&room["id"]), integer(seq), raw(previous), raw(entry)]))
    };
    let mut hash = log_hash(1, &[0; 32], &change_hash);
    let first = hash.clone();

    let (epoch, room_key) = epoch(told, announcement, people);
    verify_ed25519(device_key("alice"), &decode(&epoch["signed_bytes"]), &announcement["signature"]);
    let mut messages = Vec::new();
    for (at, item) in log.as_array().unwrap()[2..].iter().enumerate() {
        let message = &item["entry"]["entry"]["message"];
        let header = &message["header"];
        assert_eq!(decode(&header["seen_hash"]), hash);
        let mut derived = open_message(message, &room_key);
        let sender = header["sender"].as_str().unwrap();
        verify_ed25519(device_key(sender), &decode(&derived["signed_bytes"]), &message["signature"]);
        hash = log_hash(at as u64 + 2, &hash, &decode(&derived["hash"]));
        derived["log_hash"] = e(&hash);
        messages.push(derived);
    }
    assert_eq!(hash, decode(&room["end"]["hash"]));

    let receipt = &room["receipt"];
    let receipt_bytes = t(
        "mildam/receipt/v1",
        &[
            b(&receipt["room"]),
            s(&receipt["kind"]),
            n(&receipt["seq"]),
            b(&receipt["hash"]),
            s(&receipt["account"]),
            b(&receipt["device"]),
        ],
    );
    verify_ed25519(device_key("alice"), &receipt_bytes, &receipt["signature"]);
    let replacement = &room["replacement"];
    let replacement_bytes = created_bytes(replacement);
    verify_ed25519(device_key("alice"), &replacement_bytes, &replacement["signature"]);
    let replacement_hash =
        sha256(&t("mildam/room-change-hash/v1", &[raw(&replacement_bytes), b(&replacement["signature"])]));
    json!({
        "replacement": { "bytes": e(replacement_bytes), "hash": e(replacement_hash) },
        "created": { "bytes": e(change_bytes), "hash": e(change_hash), "log_hash": e(first) },
        "epoch": epoch,
        "messages": messages,
        "receipt_bytes": e(receipt_bytes),
    })
}

fn created_bytes(change: &Value) -> Vec<u8> {
    let created = &change["change"]["created"];
    let kind = match created["kind"].as_str().unwrap() {
        "direct" => 1,
        "group" => 2,
        other => panic!("{other}"),
    };
    assert_eq!(created["suite"], "mildam-1");
    let role = |role: &Value| match role.as_str().unwrap() {
        "member" => 1,
        "admin" => 2,
        "owner" => 3,
        other => panic!("{other}"),
    };
    let replaced = created.get("replaces").into_iter().flat_map(|it| [b(&it["room"]), b(&it["head"])]);
    let members = created["members"].as_array().unwrap().iter();
    let members = members
        .map(|member| vec![s(&member["account"]), b(&member["identity"]), integer(role(&member["role"]))]);
    t(
        "mildam/room-change/v1",
        &[
            o(&change["room"]),
            n(&change["version"]),
            o(&change["previous"]),
            s(&change["actor"]),
            b(&change["actor_device"]),
            b(&change["actor_list"]),
            n(&change["at"]),
            raw(b"created"),
            b(&created["nonce"]),
            integer(kind),
            integer(1),
            Field::List(members.collect()),
        ]
        .into_iter()
        .chain(replaced)
        .collect::<Vec<_>>(),
    )
}

fn epoch(told: &Value, announcement: &Value, people: &[(&str, &Value); 2]) -> (Value, Vec<u8>) {
    let recipients = announcement["recipients"].as_array().unwrap().iter();
    let recipients = recipients.map(|one| vec![s(&one["account"]), b(&one["list"])]).collect();
    let fields = [
        b(&announcement["room"]),
        n(&announcement["epoch"]),
        o(&announcement["previous"]),
        s(&announcement["announcer"]),
        b(&announcement["announcer_device"]),
        n(&announcement["version"]),
        b(&announcement["head"]),
        n(&announcement["seen_seq"]),
        b(&announcement["seen_hash"]),
        Field::List(recipients),
        o(&announcement["profile"]),
    ];
    let committed = t("mildam/commit/v1", &fields);
    let signed = t("mildam/epoch/v1", &[&fields[..], &[b(&announcement["commitment"])]].concat());
    let hash = sha256(&t("mildam/epoch-hash/v1", &[raw(&signed), b(&announcement["signature"])]));

    let mut wraps = json!({});
    let mut room_key = Vec::new();
    for (name, derived) in people {
        let (wrap, key) = unwrap(told, announcement, name, derived);
        assert!(room_key.is_empty() || room_key == key);
        room_key = key;
        wraps[*name] = wrap;
    }
    assert_eq!(hmac(&room_key, &committed), decode(&announcement["commitment"]));
    let chains: Value = people
        .iter()
        .map(|(name, _)| {
            let device = &told["accounts"][*name]["keys"]["lists"][0]["certificates"][0]["device"];
            let info =
                t("mildam/chain/v1", &[b(&announcement["room"]), n(&announcement["epoch"]), b(device)]);
            ((*name).to_owned(), e(hkdf(b"mildam/chain/v1", &room_key, &info, 32)))
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let value = json!({
        "committed_bytes": e(committed),
        "signed_bytes": e(signed),
        "hash": e(hash),
        "room_key": e(&room_key),
        "wraps": wraps,
        "chains": chains,
        "profile": profile(&told["room"]["log"][1]["epoch"]["profile"], announcement, &room_key),
    });
    (value, room_key)
}

fn unwrap(told: &Value, announcement: &Value, name: &str, derived: &Value) -> (Value, Vec<u8>) {
    let (wrap, private) = (&told["room"]["wraps"][name], &told["accounts"][name]["private"]);
    assert_eq!(wrap["prekey"], derived["prekey_hash"]);
    let (c1, c2) = (decode(&wrap["rsa"]), decode(&wrap["kem"]));
    let s1 = RsaPrivateKey::from_pkcs8_der(&decode(&private["wrap_key"]))
        .unwrap()
        .decrypt(Oaep::<Sha256>::new_with_label(b"mildam/oaep/v1".as_slice()), &c1)
        .unwrap();
    let seed: [u8; 32] = decode(&private["prekey"]).try_into().unwrap();
    let s2 = DecapsulationKey::from(seed).decapsulate(&c2.as_slice().try_into().unwrap()).to_vec();
    let info = t(
        "mildam/wrap/v1",
        &[
            b(&announcement["room"]),
            n(&announcement["epoch"]),
            b(&announcement["announcer_device"]),
            b(&wrap["device"]),
            raw(&sha256(&c1)),
            raw(&sha256(&c2)),
            b(&derived["wrap_key_fingerprint"]),
            b(&wrap["prekey"]),
        ],
    );
    let kek = hkdf(b"mildam/wrap/v1", &[&s1[..], &s2].concat(), &info, 32);
    let room_key = open(&kek, &[0; 12], &decode(&wrap["key"]), &info);
    (json!({ "s1": e(s1), "s2": e(s2), "info": e(info), "kek": e(kek) }), room_key)
}

fn profile(sealed: &Value, announcement: &Value, room_key: &[u8]) -> Value {
    let sealed = decode(sealed);
    assert_eq!(sha256(&t("mildam/sealed-profile/v1", &[raw(&sealed)])), decode(&announcement["profile"]));
    let bound = [b(&announcement["room"]), n(&announcement["epoch"])];
    let key = hkdf(b"mildam/profile-key/v1", room_key, &t("mildam/profile-key/v1", &bound), 32);
    let aad = t("mildam/profile/v1", &bound);
    let padded = open(&key, &sealed[..12], &sealed[12..], &aad);
    let text = std::str::from_utf8(unpad(&padded)).unwrap().to_owned();
    json!({ "key": e(key), "aad": e(aad), "json": text })
}

/// Both messages are the first of their device's chain.
fn open_message(message: &Value, room_key: &[u8]) -> Value {
    let header = &message["header"];
    assert_eq!(header["n"], 0);
    let info = t("mildam/chain/v1", &[b(&header["room"]), n(&header["epoch"]), b(&header["sender_device"])]);
    let chain = hkdf(b"mildam/chain/v1", room_key, &info, 32);
    let (message_key, next) = (hmac(&chain, &[1]), hmac(&chain, &[2]));
    let okm = hkdf(&decode(&header["salt"]), &message_key, &t("mildam/message/v1", &[]), 76);
    let (key, iv, commit) = (&okm[..32], &okm[32..44], &okm[44..]);
    assert_eq!(commit, decode(&header["commit"]));
    let header_bytes = t(
        "mildam/message-header/v1",
        &[
            n(&header["format"]),
            b(&header["room"]),
            n(&header["epoch"]),
            s(&header["sender"]),
            b(&header["sender_device"]),
            n(&header["n"]),
            b(&header["id"]),
            b(&header["salt"]),
            b(&header["commit"]),
            n(&header["version"]),
            b(&header["head"]),
            n(&header["seen_seq"]),
            b(&header["seen_hash"]),
            b(&header["sender_list"]),
        ],
    );
    let ciphertext = decode(&message["ciphertext"]);
    let padded = open(key, iv, &ciphertext, &header_bytes);
    let content = std::str::from_utf8(unpad(&padded)).unwrap().to_owned();
    let signed = t("mildam/signed-message/v1", &[raw(&header_bytes), raw(&sha256(&ciphertext))]);
    let hash = sha256(&t("mildam/message-hash/v1", &[raw(&signed), b(&message["signature"])]));
    json!({
        "chain_key": e(&chain),
        "message_key": e(message_key),
        "next_chain_key": e(next),
        "key": e(key),
        "iv": e(iv),
        "header_bytes": e(header_bytes),
        "content": content,
        "signed_bytes": e(signed),
        "hash": e(hash),
    })
}
