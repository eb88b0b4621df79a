"""A room as a device reads and writes it: e2ee.md, sections 6 to 9, 11 and 12."""

import os
from dataclasses import dataclass, replace
from typing import Any

from . import epochs
from .canonical import ZERO, Fields, Refused, b64, parse_json, unb64
from .primitives import Ed25519, RsaPrivate, XWing, ed25519_verify, same
from .records import (
    KINDS,
    ROLES,
    Announcement,
    Certificate,
    Contacts,
    DeviceList,
    Header,
    Member,
    Message,
    Receipt,
    RoomChange,
    Snapshot,
    Wrap,
    log_hash,
)

# What no honest relay can see: answered with an epoch of one's own, and no reason to stop.
ANSWERED_BY_A_KEY = ("no_key", "bad_commitment", "bad_profile")
MAX_JUMP = 1_024
MESSAGES_IN_AN_EPOCH = 1_000
EPOCH_LASTS = 7 * 24 * 3600 * 1000
PREKEY_LASTS = 60 * 24 * 3600 * 1000


@dataclass
class Device:
    """The own device with its keys."""

    account: str
    id: bytes
    key: Ed25519
    wrap_key: RsaPrivate
    prekeys: list[XWing]


@dataclass
class Chain:
    key: bytes
    n: int = 0

    def step(self) -> bytes:
        """The message key of the present place; the chain moves on."""
        message_key, self.key = epochs.step(self.key)
        self.n += 1
        return message_key


@dataclass
class Epoch:
    """The newest epoch of the log."""

    number: int
    hash: bytes
    version: int
    stored_at: int
    # The lists of the last good epoch, by account.
    lists: dict[str, bytes]
    chains: dict[bytes, Chain] | None = None
    sending: Chain | None = None
    for_this_device: bool = True
    messages: int = 0
    sealed: int = 0
    brought_profile: bool = False


@dataclass
class Seen:
    """What came of an item."""

    what: str
    code: str | None = None
    message: Message | None = None
    content: dict | None = None
    missing: int = 0


class Room:
    def __init__(self, room: bytes, me: Device, contacts: Contacts, start: tuple[int, bytes] = (0, ZERO)):
        self.id, self._me, self._contacts = room, me, contacts
        self._start, _ = start
        self.hashes = {start[0]: start[1]}
        self.seq = start[0]
        self.version, self.head, self.kind, self.closed = 0, b"", 0, False
        self.members: dict[str, Member] = {}
        self.banned: set[str] = set()
        self.epoch: Epoch | None = None
        self.last_epoch = 0
        self.profile: dict | None = None
        self.blocked: str | None = None
        self._for_good = False
        self._own_room_key: tuple[bytes, bytes] | None = None

    # --- Reading: section 12

    def accounts_in(self, item: Any) -> dict[str, bytes | None]:
        """Accounts that an item names, with the list that must be known, if it names one."""
        named: dict[str, bytes | None] = {}
        if "epoch" in item:
            a = Announcement.parse(item["epoch"]["announcement"])
            named |= dict(a.recipients)
        elif "change" in item["entry"]["entry"]:
            c = RoomChange.parse(item["entry"]["entry"]["change"])
            groups = [each for each in c.values if isinstance(each, tuple)]
            if item["entry"].get("snapshot"):
                groups.append(Snapshot.parse(item["entry"]["snapshot"]).members)
            named |= {member.account: None for group in groups for member in group}
            named[c.actor] = c.actor_list
        elif "message" in item["entry"]["entry"]:
            h = Message.parse(item["entry"]["entry"]["message"]).header
            named[h.sender] = h.sender_list
        return named

    def take(self, item: Any) -> Seen:
        if "epoch" in Fields(item, "", "entry epoch").value:
            return self._take_epoch(Fields(item["epoch"], "after stored_at announcement", "wrap profile"))
        f = Fields(item["entry"], "seq stored_at entry", "snapshot")
        seq = f.integer("seq")
        if seq <= self.seq:
            return Seen("old")
        if seq != self.seq + 1:
            raise Refused("out_of_order", f"{seq} after {self.seq}")
        ((kind, value),) = f.raw("entry").items()
        if kind == "withheld":
            self._advance(seq, unb64(value, 32))
            return Seen("withheld")
        record = RoomChange.parse(value) if kind == "change" else Message.parse(value)
        try:
            if kind == "change":
                self._take_change(record, f.raw("snapshot"))
                seen = Seen(record.name)
            else:
                seen = self._take_message(seq, record)
        except Refused as error:
            seen = Seen("refused", error.code)
            if kind == "change" or error.code == "log_mismatch":
                self._block(error.code, for_good=True)
        self._advance(seq, record.hash())
        return seen

    def _advance(self, seq: int, entry: bytes) -> None:
        self.hashes[seq] = log_hash(self.id, seq, self.hashes[self.seq], entry)
        self.seq = seq

    def _block(self, code: str, for_good: bool) -> None:
        self.blocked, self._for_good = self.blocked or code, self._for_good or for_good

    def _signer(self, account: str, digest: bytes, device: bytes) -> tuple[DeviceList, Certificate]:
        devices = self._contacts.get(account).list(digest)
        if devices is None:
            raise Refused("unknown_keys", account)
        certificate = devices.device(device)
        if certificate is None:
            raise Refused("unknown_device")
        return devices, certificate

    def _not_older(self, account: str, devices: DeviceList, code: str) -> None:
        """Refuses a list that is older than the one which the last good epoch names."""
        named = self.epoch.lists.get(account) if self.epoch else None
        before = self._contacts.get(account).list(named) if named else None
        if before and (devices.generation, devices.version) < (before.generation, before.version):
            raise Refused(code, account)

    def _check_members(self, members: dict[str, Member]) -> None:
        for member in members.values():
            if self._contacts.get(member.account).fingerprint() != member.identity:
                raise Refused("identity_changed", member.account)

    # --- Changes: section 7

    def _take_change(self, change: RoomChange, snapshot: Any) -> None:
        if not self.members and change.name == "added":
            after = self._join(change, Snapshot.parse(snapshot))
        else:
            after = self._follow(change)
        devices, certificate = self._signer(change.actor, change.actor_list, change.actor_device)
        try:
            ed25519_verify(certificate.device_key, change.signature, change.signed_bytes())
        except Refused:
            raise Refused("chain_broken", "signature") from None
        self._not_older(change.actor, devices, "wrong_list")
        kind, members, banned, closed = after
        self._check_members(members)
        self.version, self.head = change.version, change.hash()
        self.kind, self.members, self.banned, self.closed = kind, members, banned, closed

    def _join(self, change: RoomChange, snapshot: Snapshot) -> tuple:
        added, digest = change.values
        members = {member.account: member for member in snapshot.members}
        actor = members.get(change.actor)
        if (
            self._me.account not in {member.account for member in added}
            or snapshot.hash() != digest
            or (snapshot.version, snapshot.room) != (change.version, self.id)
            or change.room != self.id
            or any(members.get(member.account) != member for member in added)
            or snapshot.kind != KINDS["group"]
            or actor is None
            or actor.role < ROLES["admin"]
        ):
            raise Refused("chain_broken", "joining")
        return snapshot.kind, members, set(snapshot.banned), False

    def _follow(self, change: RoomChange) -> tuple:
        """Kind, members, banned and closed after the change."""

        def need(condition: bool, why: str) -> None:
            if not condition:
                raise Refused("chain_broken", why)

        members, banned = dict(self.members), set(self.banned)
        if change.name == "created":
            _nonce, kind, _suite, listed, *_replaced = change.values
            names = [member.account for member in listed]
            need(self.seq == 0 and change.version == 1, "created begins the log")
            need(change.room is None and change.previous is None and change.hash() == self.id, "created")
            need(names == sorted(set(names)), "order of members")
            roles = {member.account: member.role for member in listed}
            need(roles.get(change.actor) == ROLES["owner"], "the actor is the owner")
            need(self._me.account in roles, "the reader is among the members")
            if kind == KINDS["direct"]:
                need(list(roles.values()) == [ROLES["owner"]] * 2, "a direct room")
            return kind, {member.account: member for member in listed}, set(), False

        need(change.room == self.id and change.previous == self.head, "the head")
        need(change.version == self.version + 1 and not self.closed, "the version")
        need(change.actor in members, "the actor is a member")
        actor = members[change.actor].role
        need(change.name == "closed" or self.kind == KINDS["group"], "groups only")
        admin = actor >= ROLES["admin"]
        match change.name, change.values:
            case "added", (added, digest):
                names = [member.account for member in added]
                need(admin and names == sorted(set(names)) and bool(names), "added")
                need(not (set(names) & (set(members) | banned)), "new members")
                need(all(member.role == ROLES["member"] for member in added), "their role")
                members |= {member.account: member for member in added}
                ordered = tuple(members[account] for account in sorted(members))
                after = Snapshot(self.id, change.version, self.kind, 1, ordered, tuple(sorted(banned)))
                need(after.hash() == digest, "the snapshot")
            case "left", ():
                del members[change.actor]
            case "removed", (account,):
                need(admin and account in members and members[account].role < actor, "removed")
                del members[account]
            case "banned", (account,):
                need(admin and account not in banned, "banned")
                need(account not in members or members[account].role < actor, "banned")
                members.pop(account, None)
                banned.add(account)
            case "role", (account, role):
                need(actor == ROLES["owner"] and account in members, "role")
                members[account] = replace(members[account], role=role)
            case "closed", ():
                need(actor == ROLES["owner"], "closed")
                return self.kind, members, banned, True
        return self.kind, members, banned, False

    # --- Epochs: section 8

    def _take_epoch(self, f: Fields) -> Seen:
        a = Announcement.parse(f.raw("announcement"))
        sealed = f.optional_bytes("profile")
        if a.epoch <= self.last_epoch:
            return Seen("old")
        if f.integer("after") != self.seq:
            raise Refused("out_of_order", "epoch")
        own = self._own_room_key if self._own_room_key and self._own_room_key[0] == a.hash() else None
        self._own_room_key = None
        try:
            self._check_announcer(a, sealed)
        except Refused as error:
            # What is not even by a member is ignored otherwise.
            self._block(error.code, for_good=False)
            return Seen("refused", error.code)
        lists = dict(a.recipients)
        before = self.epoch.lists if self.epoch else {}
        epoch = Epoch(a.epoch, a.hash(), a.version, f.integer("stored_at"), before)
        code = None
        try:
            self._check_epoch(a, sealed)
            epoch.lists = lists
            mine = self._contacts.get(self._me.account).list(lists[self._me.account])
            if mine.device(self._me.id) is None:
                epoch.for_this_device = False
            else:
                self._open_epoch(epoch, a, f.raw("wrap"), sealed, own)
        except Refused as error:
            code = error.code
            epoch.lists, epoch.chains, epoch.sending = before, None, None
            if code not in ANSWERED_BY_A_KEY:
                self._block(code, for_good=code in ("log_mismatch", "identity_changed"))
        self.epoch, self.last_epoch = epoch, a.epoch
        if code is not None:
            return Seen("refused", code)
        if not self._for_good:
            self.blocked = None
        return Seen("epoch")

    def _check_announcer(self, a: Announcement, sealed: bytes | None) -> None:
        follows = (a.epoch, a.previous) == (
            (self.last_epoch + 1, self.epoch.hash) if self.epoch else (1, None)
        )
        first_of_joiner = self._start > 0 and self.epoch is None and a.epoch > 1 and a.previous is not None
        if a.room != self.id or self.closed or not (follows or first_of_joiner):
            raise Refused("epoch_broken", "does not follow")
        if a.announcer not in self.members:
            raise Refused("epoch_broken", "not a member")
        lists = dict(a.recipients)
        if a.announcer not in lists:
            raise Refused("wrong_recipients")
        _, certificate = self._signer(a.announcer, lists[a.announcer], a.announcer_device)
        try:
            ed25519_verify(certificate.device_key, a.signature, a.signed_bytes())
        except Refused:
            raise Refused("epoch_broken", "signature") from None

    def _check_epoch(self, a: Announcement, sealed: bytes | None) -> None:
        if (a.version, a.head) != (self.version, self.head):
            raise Refused("epoch_broken", "version and head")
        if a.profile != (None if sealed is None else epochs.profile_hash(sealed)):
            raise Refused("epoch_broken", "profile")
        if a.seen_seq > self.seq:
            raise Refused("log_mismatch")
        if self._start and self.epoch is None and a.seen_seq < self._start:
            raise Refused("bad_start")
        if a.seen_seq >= self._start and self.hashes[a.seen_seq] != a.seen_hash:
            raise Refused("log_mismatch")
        if [account for account, _ in a.recipients] != sorted(self.members):
            raise Refused("wrong_recipients")
        self._check_members(self.members)
        for account, digest in a.recipients:
            devices = self._contacts.get(account).list(digest)
            if devices is None:
                raise Refused("unknown_keys", account)
            self._not_older(account, devices, "wrong_recipients")

    def _open_epoch(self, epoch: Epoch, a: Announcement, wrap: Any, sealed: bytes | None, own) -> None:
        try:
            wrap = Wrap.parse(wrap)
            if (wrap.account, wrap.device) != (self._me.account, self._me.id):
                raise Refused("no_key")
            room_key = epochs.unwrap(wrap, a, self._me.wrap_key, self._me.prekeys).room_key
        except Refused:
            raise Refused("no_key") from None
        if own and not same(own[1], room_key):
            raise Refused("no_key", "the own wrap does not hold the own key")
        if not same(a.commit(room_key), a.commitment):
            raise Refused("bad_commitment")
        if sealed is not None:
            try:
                profile = parse_json(epochs.open_profile(room_key, self.id, a.epoch, sealed))
                epochs.check_profile(profile)
            except Refused:
                raise Refused("bad_profile") from None
            if self.profile is None and self.members[a.announcer].role >= ROLES["admin"]:
                self.profile = profile
        epoch.brought_profile = sealed is not None
        epoch.chains = {}
        for account, digest in a.recipients:
            for certificate in self._contacts.get(account).list(digest).certificates:
                key = epochs.first_chain_key(room_key, self.id, a.epoch, certificate.device)
                epoch.chains[certificate.device] = Chain(key)
                if certificate.device == self._me.id:
                    epoch.sending = Chain(key)

    # --- Messages: section 9

    def _take_message(self, seq: int, m: Message) -> Seen:
        h = m.header
        if h.room != self.id:
            raise Refused("other_room")
        _, certificate = self._signer(h.sender, h.sender_list, h.sender_device)
        ed25519_verify(certificate.device_key, m.signature, m.signed_bytes())
        if h.format != 1:
            raise Refused("needs_newer_version")
        if h.sender not in self.members:
            raise Refused("not_member")
        if self.closed:
            raise Refused("closed")
        if h.seen_seq >= seq or h.seen_seq >= self._start and self.hashes[h.seen_seq] != h.seen_hash:
            raise Refused("log_mismatch")
        epoch = self.epoch
        if epoch is None:
            raise Refused("no_key")
        current = (epoch.number, self.version, self.head)
        if (h.epoch, h.version, h.head) != current or epoch.version != self.version:
            raise Refused("stale")
        if epoch.lists.get(h.sender) != h.sender_list:
            raise Refused("wrong_list")
        if epoch.chains is None or h.sender_device not in epoch.chains:
            raise Refused("no_key" if epoch.for_this_device else "before_device")
        chain = epoch.chains[h.sender_device]
        missing = h.n - chain.n
        if missing < 0:
            raise Refused("replayed")
        if missing > MAX_JUMP:
            raise Refused("jump_too_far")
        for _ in range(missing + 1):
            message_key = chain.step()
        # The chain has moved, whatever follows: no key is tried twice.
        epoch.messages += 1
        content = epochs.open_message(epochs.MessageKeys.derive(message_key, h.salt), m)
        if h.sender_device == self._me.id and epoch.sending and h.n >= epoch.sending.n:
            # This device has sent it and does not know: its state was put back.
            epoch.sending = None
        value = epochs.parse_content(content)
        profile = epochs.body(value, "profile")
        if profile is not None:
            if self.members[h.sender].role < ROLES["admin"]:
                raise Refused("forbidden")
            self.profile = epochs.check_profile(profile)
        return Seen("message", message=m, content=value, missing=missing)

    # --- Writing

    @classmethod
    def create(cls, me: Device, contacts: Contacts, kind: str, others: list[str], now: int, profile=None):
        """A new room, and the data of `room_create`."""
        role = ROLES["owner" if kind == "direct" else "member"]
        roles = {account: role for account in others} | {me.account: ROLES["owner"]}
        members = tuple(_member(contacts, account, roles[account]) for account in sorted(roles))
        values = (os.urandom(32), KINDS[kind], 1, members)
        change = _signed_change(me, contacts, None, 1, None, now, "created", values)
        room = cls(change.hash(), me, contacts)
        epoch = room._announcement(now, 1, change.hash(), sorted(roles), profile)
        return room, {"change": change.json(), "epoch": epoch}

    def add(self, accounts: list[str], now: int, profile: bytes | None) -> dict:
        """The data of `room_change` that brings them in."""
        self._may_write()
        added = tuple(_member(self._contacts, account, ROLES["member"]) for account in sorted(accounts))
        members = self.members | {member.account: member for member in added}
        ordered = tuple(members[account] for account in sorted(members))
        after = Snapshot(self.id, self.version + 1, self.kind, 1, ordered, tuple(sorted(self.banned)))
        change = self._change(now, "added", (added, after.hash()))
        epoch = self._announcement(now, change.version, change.hash(), sorted(members), profile)
        return {"change": change.json(), "snapshot": after.json(), "epoch": epoch}

    def remove(self, account: str, now: int, profile: bytes | None) -> dict:
        """The data of `room_change` that puts somebody out."""
        self._may_write()
        change = self._change(now, "removed", (account,))
        left = sorted(set(self.members) - {account})
        epoch = self._announcement(now, change.version, change.hash(), left, profile)
        return {"change": change.json(), "epoch": epoch}

    def _change(self, now: int, name: str, values: tuple) -> RoomChange:
        return _signed_change(
            self._me, self._contacts, self.id, self.version + 1, self.head, now, name, values
        )

    def position(self) -> tuple[int, bytes]:
        return self.seq, self.hashes[self.seq]

    def epoch_is_due(self, now: int) -> bool:
        epoch = self.epoch
        newest = {account: self._contacts.get(account).newest().hash() for account in self.members}
        return (
            epoch is None
            or epoch.sending is None
            or epoch.version != self.version
            or epoch.lists != newest
            or max(epoch.messages, epoch.sealed) >= MESSAGES_IN_AN_EPOCH
            or now - epoch.stored_at >= EPOCH_LASTS
            or self.profile is not None
            and not epoch.brought_profile
        )

    def announce(self, now: int, profile: bytes | None = None) -> dict:
        """The next epoch for the present members, as `epoch` of the commands. The keys of all members
        must have been asked for."""
        self._may_write()
        return self._announcement(now, self.version, self.head, sorted(self.members), profile)

    def _may_write(self) -> None:
        if self.blocked is not None:
            raise Refused("blocked", self.blocked)

    def _announcement(self, now: int, version: int, head: bytes, accounts: list[str], profile) -> dict:
        keys = {account: self._contacts.get(account) for account in accounts}
        room_key, number = os.urandom(32), self.last_epoch + 1
        seen_seq, seen_hash = self.position()
        sealed = None if profile is None else epochs.seal_profile(room_key, self.id, number, profile)
        a = Announcement(
            self.id,
            number,
            self.epoch.hash if self.epoch else None,
            self._me.account,
            self._me.id,
            version,
            head,
            seen_seq,
            seen_hash,
            tuple((account, each.newest().hash()) for account, each in keys.items()),
            None if sealed is None else epochs.profile_hash(sealed),
        )
        a = replace(a, commitment=a.commit(room_key))
        a = replace(a, signature=self._me.key.sign(a.signed_bytes()))
        wraps = [
            epochs.wrap(room_key, a, each.newest().device(prekey.device), prekey).json()
            for each in keys.values()
            for prekey in each.prekeys
            if now - prekey.created_at <= PREKEY_LASTS
        ]
        self._own_room_key = (a.hash(), room_key)
        epoch = {"announcement": a.json(), "wraps": wraps}
        return epoch if sealed is None else {**epoch, "profile": b64(sealed)}

    def seal(self, content: bytes, message_id: bytes) -> Message:
        self._may_write()
        epoch = self.epoch
        if epoch is None or epoch.sending is None:
            raise Refused("no_key")
        n, salt = epoch.sending.n, os.urandom(16)
        keys = epochs.MessageKeys.derive(epoch.sending.step(), salt)
        epoch.sealed += 1
        seen_seq, seen_hash = self.position()
        header = Header(
            1,
            self.id,
            epoch.number,
            self._me.account,
            self._me.id,
            n,
            message_id,
            salt,
            keys.commit,
            self.version,
            self.head,
            seen_seq,
            seen_hash,
            epoch.lists[self._me.account],
        )
        sealed = epochs.seal_message(keys, header, content)
        return replace(sealed, signature=self._me.key.sign(sealed.signed_bytes()))

    # --- Receipts: section 11

    def receipt(self, kind: str, seq: int) -> Receipt:
        unsigned = Receipt(self.id, kind, seq, self.hashes[seq], self._me.account, self._me.id)
        return replace(unsigned, signature=self._me.key.sign(unsigned.signed_bytes()))

    def check_receipt(self, receipt: Receipt) -> None:
        if receipt.room != self.id or receipt.account not in self.members:
            raise Refused("other_room")
        if self.hashes.get(receipt.seq) != receipt.hash:
            raise Refused("log_mismatch")
        certificate = self._contacts.get(receipt.account).newest().device(receipt.device)
        if certificate is None:
            raise Refused("unknown_device")
        ed25519_verify(certificate.device_key, receipt.signature, receipt.signed_bytes())


def _member(contacts: Contacts, account: str, role: int) -> Member:
    return Member(account, contacts.get(account).fingerprint(), role)


def _signed_change(me: Device, contacts: Contacts, room, version, previous, now, name, values) -> RoomChange:
    own_list = contacts.get(me.account).newest().hash()
    change = RoomChange(room, version, previous, me.account, me.id, own_list, now, name, values, b"")
    return replace(change, signature=me.key.sign(change.signed_bytes()))
