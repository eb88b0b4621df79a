"""Signed records: e2ee.md, sections 3 to 5, 7, 8, 9 and 11."""

import re
from dataclasses import dataclass, field
from typing import Any

from .canonical import H, Fields, List, Opt, Refused, T, b64, sha256
from .primitives import RsaPublic, check_ed25519, check_xwing, ed25519_verify, hkdf, mac

KINDS = {"direct": 1, "group": 2}
SUITES = {"mildam-1": 1}
ROLES = {"member": 1, "admin": 2, "owner": 3}


def account_id(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_.]{2,31}", value):
        raise Refused("malformed", f"no account id: {value!r}")
    return value


def code(table: dict[str, int], value: Any) -> int:
    if not isinstance(value, str) or value not in table:
        raise Refused("malformed", f"{value!r} is none of {sorted(table)}")
    return table[value]


def name(table: dict[str, int], value: int) -> str:
    return next(each for each, number in table.items() if number == value)


def identity_fingerprint(spki: bytes) -> bytes:
    return H("mildam/identity/v1", spki)


def wrap_key_fingerprint(spki: bytes) -> bytes:
    return H("mildam/wrap-key/v1", spki)


def device_id(account: str, wrap_key: bytes, device_key: bytes) -> bytes:
    return H("mildam/device-id/v1", account, wrap_key, device_key)[:16]


# --- Section 4


@dataclass(frozen=True)
class Certificate:
    account: str
    device: bytes
    wrap_key: bytes
    device_key: bytes
    created_at: int
    signature: bytes

    @classmethod
    def parse(cls, value: Any) -> "Certificate":
        f = Fields(value, "account device wrap_key device_key created_at signature")
        return cls(
            account_id(f.raw("account")),
            f.bytes("device", 16),
            RsaPublic(f.bytes("wrap_key", 422)).spki,
            check_ed25519(f.bytes("device_key", 32)),
            f.integer("created_at"),
            f.bytes("signature", 64),
        )

    def signed_bytes(self) -> bytes:
        fields = (self.account, self.device, self.wrap_key, self.device_key, self.created_at)
        return T("mildam/certificate/v1", *fields)

    def json(self) -> dict:
        return {
            "account": self.account,
            "device": b64(self.device),
            "wrap_key": b64(self.wrap_key),
            "device_key": b64(self.device_key),
            "created_at": self.created_at,
            "signature": b64(self.signature),
        }

    def verify(self) -> None:
        if self.device != device_id(self.account, self.wrap_key, self.device_key):
            raise Refused("bad_record", "the device id does not follow from account and keys")
        ed25519_verify(self.device_key, self.signature, self.signed_bytes())


@dataclass(frozen=True)
class DeviceList:
    account: str
    identity: bytes
    generation: int
    version: int
    previous: bytes | None
    certificates: tuple[Certificate, ...]
    signer: bytes | None
    signature: bytes

    @classmethod
    def parse(cls, value: Any) -> "DeviceList":
        f = Fields(value, "account identity generation version certificates signer signature", "previous")
        signer = f.raw("signer")
        return cls(
            account_id(f.raw("account")),
            f.bytes("identity", 32),
            f.integer("generation"),
            f.integer("version"),
            f.optional_bytes("previous", 32),
            tuple(map(Certificate.parse, f.list("certificates"))),
            None if signer == "identity" else Fields(signer, "device").bytes("device", 16),
            f.bytes("signature"),
        )

    def signed_bytes(self) -> bytes:
        certificates = List([(c.signed_bytes(), c.signature) for c in self.certificates])
        return T(
            "mildam/device-list/v1",
            self.account,
            self.identity,
            self.generation,
            self.version,
            Opt(self.previous),
            certificates,
            Opt(self.signer),
        )

    def hash(self) -> bytes:
        return H("mildam/device-list-hash/v1", self.signed_bytes(), self.signature)

    def json(self) -> dict:
        return {
            "account": self.account,
            "identity": b64(self.identity),
            "generation": self.generation,
            "version": self.version,
            "previous": None if self.previous is None else b64(self.previous),
            "certificates": [c.json() for c in self.certificates],
            "signer": "identity" if self.signer is None else {"device": b64(self.signer)},
            "signature": b64(self.signature),
        }

    def device(self, device: bytes) -> Certificate | None:
        return next((c for c in self.certificates if c.device == device), None)

    def verify(self, identity: RsaPublic, before: "DeviceList | None") -> None:
        """Checks it as the successor of `before`, or as the first version of a generation."""
        if self.identity != identity_fingerprint(identity.spki):
            raise Refused("bad_record", "another identity key")
        if before is not None and before.generation == self.generation:
            if (self.version, self.previous) != (before.version + 1, before.hash()):
                raise Refused("bad_record", "the list does not follow")
            signer = before.device(self.signer) if self.signer is not None else None
            if signer is None:
                raise Refused("bad_record", "no device of the version before signed")
            ed25519_verify(signer.device_key, self.signature, self.signed_bytes())
        else:
            if self.version != 1 or self.previous is not None or self.signer is not None:
                raise Refused("bad_record", "not a first version")
            if self.generation < 1 or before is not None and before.generation >= self.generation:
                raise Refused("bad_record", "the generation is not higher")
            identity.verify(self.signature, self.signed_bytes())
        if not self.certificates or len({c.device for c in self.certificates}) != len(self.certificates):
            raise Refused("bad_record", "no device, or one twice")
        for certificate in self.certificates:
            if certificate.account != self.account:
                raise Refused("bad_record", "a certificate of another account")
            certificate.verify()


@dataclass(frozen=True)
class Prekey:
    account: str
    device: bytes
    public: bytes
    created_at: int
    signature: bytes

    @classmethod
    def parse(cls, value: Any) -> "Prekey":
        f = Fields(value, "account device public created_at signature")
        return cls(
            account_id(f.raw("account")),
            f.bytes("device", 16),
            check_xwing(f.bytes("public", 1216)),
            f.integer("created_at"),
            f.bytes("signature", 64),
        )

    def signed_bytes(self) -> bytes:
        return T("mildam/prekey/v1", self.account, self.device, self.public, self.created_at)

    def json(self) -> dict:
        return {
            "account": self.account,
            "device": b64(self.device),
            "public": b64(self.public),
            "created_at": self.created_at,
            "signature": b64(self.signature),
        }

    def hash(self) -> bytes:
        return sha256(self.public)


@dataclass(frozen=True)
class AccountKeys:
    account: str
    identity_key: RsaPublic
    lists: tuple[DeviceList, ...]
    prekeys: tuple[Prekey, ...]

    @classmethod
    def parse(cls, value: Any) -> "AccountKeys":
        """Parses and verifies all of it."""
        f = Fields(value, "account identity_key lists prekeys")
        keys = cls(
            account_id(f.raw("account")),
            RsaPublic(f.bytes("identity_key", 422)),
            tuple(map(DeviceList.parse, f.list("lists"))),
            tuple(map(Prekey.parse, f.list("prekeys"))),
        )
        if not keys.lists:
            raise Refused("bad_record", "no lists")
        before = None
        for each in keys.lists:
            if each.account != keys.account:
                raise Refused("bad_record", "a list of another account")
            each.verify(keys.identity_key, before)
            before = each
        if len({p.device for p in keys.prekeys}) != len(keys.prekeys):
            raise Refused("bad_record", "two prekeys of a device")
        for prekey in keys.prekeys:
            certificate = keys.newest().device(prekey.device)
            if prekey.account != keys.account or certificate is None:
                raise Refused("bad_record", "a prekey of no device of the account")
            ed25519_verify(certificate.device_key, prekey.signature, prekey.signed_bytes())
        return keys

    def newest(self) -> DeviceList:
        return self.lists[-1]

    def list(self, digest: bytes) -> DeviceList | None:
        return next((each for each in self.lists if each.hash() == digest), None)

    def fingerprint(self) -> bytes:
        return identity_fingerprint(self.identity_key.spki)


class Contacts:
    """What is known of accounts: section 5."""

    def __init__(self) -> None:
        self._known: dict[str, AccountKeys] = {}

    def get(self, account: str) -> AccountKeys:
        if account not in self._known:
            raise Refused("unknown_keys", account)
        return self._known[account]

    def learn(self, account: str, value: Any) -> AccountKeys:
        """Pins an account at the first contact, and takes later keys only if nothing speaks against it."""
        keys = AccountKeys.parse(value)
        known = self._known.get(account)
        if keys.account != account:
            raise Refused("other_account")
        if known is not None:
            if keys.identity_key.spki != known.identity_key.spki:
                raise Refused("identity_changed")
            new, old = keys.newest(), known.newest()
            if (new.generation, new.version) < (old.generation, old.version):
                raise Refused("rolled_back")
            if new.generation == old.generation and keys.lists[: len(known.lists)] != known.lists:
                raise Refused("forked")
            for prekey in keys.prekeys:
                before = next((p for p in known.prekeys if p.device == prekey.device), None)
                if before and before != prekey and before.created_at >= prekey.created_at:
                    raise Refused("rolled_back")
        self._known[account] = keys
        return keys


def login_bytes(account: str, device: bytes, transcript: bytes) -> bytes:
    return T("mildam/login/v1", account, device, transcript)


def attach_bytes(account: str, device: bytes, transcript: bytes) -> bytes:
    return T("mildam/attach/v1", account, device, transcript)


def recover_bytes(account: str, transcript: bytes) -> bytes:
    return T("mildam/recover/v1", account, transcript)


def recovered_bytes(account: str, device: bytes, transcript: bytes, record: bytes, digest: bytes) -> bytes:
    return T("mildam/recovered/v1", account, device, transcript, sha256(record), digest)


# --- Section 5


def safety_number(one: tuple[str, bytes], other: tuple[str, bytes]) -> tuple[bytes, bytes, str]:
    """Material, bytes and digits for two accounts and their fingerprints."""
    first, second = sorted((one, other), key=lambda each: each[0].encode())
    label = "mildam/safety-number/v1"
    material = T(label, *first, *second)
    data = hkdf(label, material, T(label), 60)
    groups = (int.from_bytes(data[at : at + 5], "big") % 100_000 for at in range(0, 60, 5))
    return material, data, " ".join(f"{group:05}" for group in groups)


# --- Section 6


def log_hash(room: bytes, seq: int, before: bytes, entry: bytes) -> bytes:
    return H("mildam/log/v1", room, seq, before, entry)


# --- Section 7


@dataclass(frozen=True)
class Member:
    account: str
    identity: bytes
    role: int

    @classmethod
    def parse(cls, value: Any) -> "Member":
        f = Fields(value, "account identity role")
        return cls(account_id(f.raw("account")), f.bytes("identity", 32), code(ROLES, f.raw("role")))

    def element(self) -> tuple:
        return self.account, self.identity, self.role

    def json(self) -> dict:
        return {"account": self.account, "identity": b64(self.identity), "role": name(ROLES, self.role)}


def members(values: list) -> tuple[Member, ...]:
    return tuple(map(Member.parse, values))


@dataclass(frozen=True)
class RoomChange:
    room: bytes | None
    version: int
    previous: bytes | None
    actor: str
    actor_device: bytes
    actor_list: bytes
    at: int
    name: str
    values: tuple
    signature: bytes

    @classmethod
    def parse(cls, value: Any) -> "RoomChange":
        required = "version actor actor_device actor_list at change signature"
        f = Fields(value, required, "room previous")
        name, values = _change(f.raw("change"))
        return cls(
            f.optional_bytes("room", 32),
            f.integer("version"),
            f.optional_bytes("previous", 32),
            account_id(f.raw("actor")),
            f.bytes("actor_device", 16),
            f.bytes("actor_list", 32),
            f.integer("at"),
            name,
            values,
            f.bytes("signature", 64),
        )

    def signed_bytes(self) -> bytes:
        return T(
            "mildam/room-change/v1",
            Opt(self.room),
            self.version,
            Opt(self.previous),
            self.actor,
            self.actor_device,
            self.actor_list,
            self.at,
            self.name,
            *(_members_field(each) if isinstance(each, tuple) else each for each in self.values),
        )

    def hash(self) -> bytes:
        return H("mildam/room-change-hash/v1", self.signed_bytes(), self.signature)

    def json(self) -> dict:
        match self.name, self.values:
            case "created", (nonce, kind, suite, listed, *replaced):
                inner = {"nonce": b64(nonce), "kind": name(KINDS, kind), "suite": name(SUITES, suite)}
                change: Any = {"created": {**inner, "members": [each.json() for each in listed]}}
                if replaced:
                    room, head = replaced
                    change["created"]["replaces"] = {"room": b64(room), "head": b64(head)}
            case "added", (listed, digest):
                change = {"added": {"members": [each.json() for each in listed], "snapshot": b64(digest)}}
            case (("removed" | "banned"), (account,)):
                change = {self.name: {"account": account}}
            case "role", (account, role):
                change = {"role": {"account": account, "role": name(ROLES, role)}}
            case _:
                change = self.name
        return {
            "room": None if self.room is None else b64(self.room),
            "version": self.version,
            "previous": None if self.previous is None else b64(self.previous),
            "actor": self.actor,
            "actor_device": b64(self.actor_device),
            "actor_list": b64(self.actor_list),
            "at": self.at,
            "change": change,
            "signature": b64(self.signature),
        }


def _members_field(each: tuple[Member, ...]) -> List:
    return List([member.element() for member in each])


def _change(value: Any) -> tuple[str, tuple]:
    """The name of a change, and its fields in the order of the table."""
    if value in ("left", "closed"):
        return value, ()
    if not isinstance(value, dict) or len(value) != 1:
        raise Refused("malformed", "not one change")
    (name,) = value
    inner = value[name]
    match name:
        case "created":
            f = Fields(inner, "nonce kind suite members", "replaces")
            kind, suite = code(KINDS, f.raw("kind")), code(SUITES, f.raw("suite"))
            values = (f.bytes("nonce", 32), kind, suite, members(f.list("members")))
            if f.raw("replaces") is None:
                return name, values
            replaced = Fields(f.raw("replaces"), "room head")
            return name, (*values, replaced.bytes("room", 32), replaced.bytes("head", 32))
        case "added":
            f = Fields(inner, "members snapshot")
            return name, (members(f.list("members")), f.bytes("snapshot", 32))
        case "removed" | "banned":
            return name, (account_id(Fields(inner, "account").raw("account")),)
        case "role":
            f = Fields(inner, "account role")
            return name, (account_id(f.raw("account")), code(ROLES, f.raw("role")))
    raise Refused("malformed", f"no such change: {name}")


@dataclass(frozen=True)
class Snapshot:
    room: bytes
    version: int
    kind: int
    suite: int
    members: tuple[Member, ...]
    banned: tuple[str, ...]

    @classmethod
    def parse(cls, value: Any) -> "Snapshot":
        f = Fields(value, "room version kind suite members banned")
        return cls(
            f.bytes("room", 32),
            f.integer("version"),
            code(KINDS, f.raw("kind")),
            code(SUITES, f.raw("suite")),
            members(f.list("members")),
            tuple(map(account_id, f.list("banned"))),
        )

    def json(self) -> dict:
        return {
            "room": b64(self.room),
            "version": self.version,
            "kind": name(KINDS, self.kind),
            "suite": name(SUITES, self.suite),
            "members": [each.json() for each in self.members],
            "banned": list(self.banned),
        }

    def hash(self) -> bytes:
        return H(
            "mildam/snapshot/v1",
            self.room,
            self.version,
            self.kind,
            self.suite,
            _members_field(self.members),
            List([(account,) for account in self.banned]),
        )


# --- Section 8


@dataclass(frozen=True)
class Announcement:
    room: bytes
    epoch: int
    previous: bytes | None
    announcer: str
    announcer_device: bytes
    version: int
    head: bytes
    seen_seq: int
    seen_hash: bytes
    recipients: tuple[tuple[str, bytes], ...]
    profile: bytes | None
    commitment: bytes = field(default=b"")
    signature: bytes = field(default=b"")

    @classmethod
    def parse(cls, value: Any) -> "Announcement":
        required = "room epoch announcer announcer_device version head seen_seq seen_hash recipients"
        f = Fields(value, required + " commitment signature", "previous profile")
        recipients = [Fields(each, "account list") for each in f.list("recipients")]
        return cls(
            f.bytes("room", 32),
            f.integer("epoch"),
            f.optional_bytes("previous", 32),
            account_id(f.raw("announcer")),
            f.bytes("announcer_device", 16),
            f.integer("version"),
            f.bytes("head", 32),
            f.integer("seen_seq"),
            f.bytes("seen_hash", 32),
            tuple((account_id(each.raw("account")), each.bytes("list", 32)) for each in recipients),
            f.optional_bytes("profile", 32),
            f.bytes("commitment", 32),
            f.bytes("signature", 64),
        )

    def _fields(self) -> tuple:
        return (
            self.room,
            self.epoch,
            Opt(self.previous),
            self.announcer,
            self.announcer_device,
            self.version,
            self.head,
            self.seen_seq,
            self.seen_hash,
            List(list(self.recipients)),
            Opt(self.profile),
        )

    def committed_bytes(self) -> bytes:
        return T("mildam/commit/v1", *self._fields())

    def commit(self, room_key: bytes) -> bytes:
        return mac(room_key, self.committed_bytes())

    def signed_bytes(self) -> bytes:
        return T("mildam/epoch/v1", *self._fields(), self.commitment)

    def hash(self) -> bytes:
        return H("mildam/epoch-hash/v1", self.signed_bytes(), self.signature)

    def json(self) -> dict:
        return {
            "room": b64(self.room),
            "epoch": self.epoch,
            "previous": None if self.previous is None else b64(self.previous),
            "announcer": self.announcer,
            "announcer_device": b64(self.announcer_device),
            "version": self.version,
            "head": b64(self.head),
            "seen_seq": self.seen_seq,
            "seen_hash": b64(self.seen_hash),
            "recipients": [{"account": account, "list": b64(digest)} for account, digest in self.recipients],
            "profile": None if self.profile is None else b64(self.profile),
            "commitment": b64(self.commitment),
            "signature": b64(self.signature),
        }


@dataclass(frozen=True)
class Wrap:
    account: str
    device: bytes
    prekey: bytes
    rsa: bytes
    kem: bytes
    key: bytes = field(default=b"")

    @classmethod
    def parse(cls, value: Any) -> "Wrap":
        f = Fields(value, "account device prekey rsa kem key")
        return cls(
            account_id(f.raw("account")),
            f.bytes("device", 16),
            f.bytes("prekey", 32),
            f.bytes("rsa", 384),
            f.bytes("kem", 1120),
            f.bytes("key", 48),
        )

    def json(self) -> dict:
        return {
            "account": self.account,
            "device": b64(self.device),
            "prekey": b64(self.prekey),
            "rsa": b64(self.rsa),
            "kem": b64(self.kem),
            "key": b64(self.key),
        }

    def info(self, announcement: Announcement, wrap_key: bytes) -> bytes:
        return T(
            "mildam/wrap/v1",
            announcement.room,
            announcement.epoch,
            announcement.announcer_device,
            self.device,
            sha256(self.rsa),
            sha256(self.kem),
            wrap_key_fingerprint(wrap_key),
            self.prekey,
        )


# --- Section 9


@dataclass(frozen=True)
class Header:
    format: int
    room: bytes
    epoch: int
    sender: str
    sender_device: bytes
    n: int
    id: bytes
    salt: bytes
    commit: bytes
    version: int
    head: bytes
    seen_seq: int
    seen_hash: bytes
    sender_list: bytes

    @classmethod
    def parse(cls, value: Any) -> "Header":
        names = "format room epoch sender sender_device n id salt commit version head seen_seq seen_hash"
        f = Fields(value, names + " sender_list")
        return cls(
            f.integer("format"),
            f.bytes("room", 32),
            f.integer("epoch"),
            account_id(f.raw("sender")),
            f.bytes("sender_device", 16),
            f.integer("n"),
            f.bytes("id", 16),
            f.bytes("salt", 16),
            f.bytes("commit", 32),
            f.integer("version"),
            f.bytes("head", 32),
            f.integer("seen_seq"),
            f.bytes("seen_hash", 32),
            f.bytes("sender_list", 32),
        )

    def bytes(self) -> bytes:
        # The fields are declared in the order of the text.
        return T("mildam/message-header/v1", *vars(self).values())

    def json(self) -> dict:
        return {key: b64(each) if isinstance(each, bytes) else each for key, each in vars(self).items()}


@dataclass(frozen=True)
class Message:
    header: Header
    ciphertext: bytes
    signature: bytes = field(default=b"")

    @classmethod
    def parse(cls, value: Any) -> "Message":
        f = Fields(value, "header ciphertext signature")
        return cls(Header.parse(f.raw("header")), f.bytes("ciphertext"), f.bytes("signature", 64))

    def signed_bytes(self) -> bytes:
        return T("mildam/signed-message/v1", self.header.bytes(), sha256(self.ciphertext))

    def hash(self) -> bytes:
        return H("mildam/message-hash/v1", self.signed_bytes(), self.signature)

    def json(self) -> dict:
        return {
            "header": self.header.json(),
            "ciphertext": b64(self.ciphertext),
            "signature": b64(self.signature),
        }


# --- Section 11


@dataclass(frozen=True)
class Receipt:
    room: bytes
    kind: str
    seq: int
    hash: bytes
    account: str
    device: bytes
    signature: bytes = field(default=b"")

    @classmethod
    def parse(cls, value: Any) -> "Receipt":
        f = Fields(value, "room kind seq hash account device signature")
        if f.raw("kind") not in ("delivered", "read"):
            raise Refused("malformed", "kind of receipt")
        return cls(
            f.bytes("room", 32),
            f.text("kind"),
            f.integer("seq"),
            f.bytes("hash", 32),
            account_id(f.raw("account")),
            f.bytes("device", 16),
            f.bytes("signature", 64),
        )

    def signed_bytes(self) -> bytes:
        fields = (self.room, self.kind, self.seq, self.hash, self.account, self.device)
        return T("mildam/receipt/v1", *fields)

    def json(self) -> dict:
        return {
            "room": b64(self.room),
            "kind": self.kind,
            "seq": self.seq,
            "hash": b64(self.hash),
            "account": self.account,
            "device": b64(self.device),
            "signature": b64(self.signature),
        }
