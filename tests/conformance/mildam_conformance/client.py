"""A client of a running relay. Everything is in memory; it is told what to do line by line."""

import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

from . import epochs, opaque, recovery
from .canonical import Refused, b64, to_json, unb64
from .connection import Answered, Connection, Plain, Tls, Wss, parse_link
from .primitives import Ed25519, RsaPrivate, XWing
from .records import (
    Certificate,
    Contacts,
    DeviceList,
    Prekey,
    Receipt,
    account_id,
    attach_bytes,
    device_id,
    identity_fingerprint,
    login_bytes,
    recover_bytes,
    recovered_bytes,
    safety_number,
)
from .room import Device, Room


def now() -> int:
    return time.time_ns() // 1_000_000


class Client:
    def __init__(self, link: str):
        self._link = link
        self._contacts = Contacts()
        self._rooms: dict[str, Room] = {}
        self._heard: list[tuple[str, dict]] = []
        self._receipts: list[Receipt] = []
        self._connection = self._connect()

    def _connect(self, over: str = "tls", plain: str | None = None) -> Connection:
        """By TLS, by a WebSocket in TLS, or to the address of the plain listener."""
        host, port, fingerprint = parse_link(self._link)
        if over == "tcp":
            host, _, number = (plain or "").rpartition(":")
            return Connection(Plain, host, int(number), fingerprint)
        return Connection({"tls": Tls, "wss": Wss}[over], host, port, fingerprint)

    def _request(self, command: str, **data: Any) -> Any:
        return self._connection.request(command, **data)

    # --- Accounts

    def server_info(self) -> dict:
        return self._request("server_info")

    def sign_up(self, account: str, password: str) -> dict:
        identity, secret = RsaPrivate.generate(), os.urandom(16)
        fingerprint = identity_fingerprint(identity.public.spki)
        device_list, prekey = self._make_device(account_id(account), identity, 1)
        registration = opaque.Registration(account, password)
        started = self._request("sign_up_start", account=account, password=b64(registration.request))
        answer = self._request(
            "sign_up",
            account=account,
            email=f"{account}@example.org",
            password=b64(registration.record(unb64(started["password"], 64))),
            nickname="",
            identity_key=b64(identity.public.spki),
            sealed_identity=b64(recovery.seal_identity(secret, account, fingerprint, identity.pkcs8)),
            recovery_key=b64(Ed25519(recovery.recovery_seed(secret, account)).public),
            device_list=device_list.json(),
            prekey=prekey.json(),
            proof=self._login_proof(),
        )
        self._attach(answer["session"])
        return {"words": {language: recovery.words(secret, language) for language in recovery.LANGUAGES}}

    def _make_device(self, account: str, identity: RsaPrivate, generation: int) -> tuple[DeviceList, Prekey]:
        """A new device for this client, and version 1 of a generation with it alone."""
        key, wrap_key, prekey, at = Ed25519(), RsaPrivate.generate(), XWing(), now()
        device = device_id(account, wrap_key.public.spki, key.public)
        certificate = Certificate(account, device, wrap_key.public.spki, key.public, at, b"")
        certificate = with_signature(certificate, key.sign)
        fingerprint = identity_fingerprint(identity.public.spki)
        devices = DeviceList(account, fingerprint, generation, 1, None, (certificate,), None, b"")
        self._me = Device(account, device, key, wrap_key, [prekey])
        signed = with_signature(Prekey(account, device, prekey.public, at, b""), key.sign)
        return with_signature(devices, identity.sign), signed

    def _login_proof(self) -> str:
        signed = login_bytes(self._me.account, self._me.id, self._connection.transcript)
        return b64(self._me.key.sign(signed))

    def log_in(
        self, password: str, over: str = "tls", plain: str | None = None, spoil: bool = False
    ) -> dict:
        """On a new connection. A spoiled login is one that the server must notice."""
        self._connection.close()
        self._connection = self._connect(over, plain)
        account = self._me.account
        login = opaque.Login(account, password)
        started = self._request("log_in_start", account=account, password=b64(login.ke1))
        ke3 = login.ke3(unb64(started["password"], 320), self._connection.transcript)
        if spoil:
            ke3 = bytes([ke3[0] ^ 1]) + ke3[1:]
        proof = self._login_proof()
        answer = self._request(
            "log_in", account=account, password=b64(ke3), device=b64(self._me.id), proof=proof
        )
        self._attach(answer["session"])
        return {}

    def recover(self, account: str, words: str, password: str) -> dict:
        """On a new connection, as whoever has the words: a new generation with a new device."""
        self._connection.close()
        self._connection = self._connect()
        secret = recovery.entropy(words)
        transcript = self._connection.transcript
        key = Ed25519(recovery.recovery_seed(secret, account))
        registration = opaque.Registration(account, password)
        started = self._request(
            "recover_start",
            account=account,
            password=b64(registration.request),
            proof=b64(key.sign(recover_bytes(account, transcript))),
        )
        keys = self._contacts.learn(account, started["keys"])
        sealed = unb64(started["sealed_identity"])
        identity = RsaPrivate(recovery.open_identity(secret, account, keys.fingerprint(), sealed))
        if identity.public.spki != keys.identity_key.spki:
            raise Refused("bad_record", "another identity key")
        devices, prekey = self._make_device(account, identity, keys.newest().generation + 1)
        record = registration.record(unb64(started["password"], 64))
        signed = recovered_bytes(account, self._me.id, transcript, record, devices.hash())
        answer = self._request(
            "recover",
            account=account,
            password=b64(record),
            device_list=devices.json(),
            prekey=prekey.json(),
            proof=b64(self._me.key.sign(signed)),
        )
        self._attach(answer["session"])
        # The new device has no keys of the past.
        self._rooms.clear()
        return {"generation": devices.generation}

    def _attach(self, session: str) -> None:
        self._connection.session = session
        signed = attach_bytes(self._me.account, self._me.id, self._connection.transcript)
        attached = self._request("attach", proof=b64(self._me.key.sign(signed)))
        if (attached["account"], attached["device"]) != (self._me.account, b64(self._me.id)):
            raise Refused("malformed", "attached as somebody else")

    # --- Friends

    def accept(self, account: str) -> dict:
        """Waits for the request, and accepts it."""
        self._wait("friend_requested", lambda data: data["account"] == account)
        self._request("friend_accept", account=account)
        friends = self._request("friend_list")["friends"]
        if [each["account"] for each in friends if each["account"] == account] != [account]:
            raise Refused("not_friends")
        self._ask_keys([account])
        return {}

    def safety_number(self, account: str) -> dict:
        me, other = self._contacts.get(self._me.account), self._contacts.get(account)
        pair = [(each.account, each.fingerprint()) for each in (me, other)]
        return {"digits": safety_number(*pair)[2]}

    def _ask_keys(self, accounts: list[str]) -> None:
        accounts = sorted({*accounts, self._me.account})
        for each in self._request("account_keys", accounts=accounts)["accounts"]:
            self._contacts.learn(each["keys"]["account"], each["keys"])

    # --- Events

    def _wait(self, event: str, wanted=lambda _data: True) -> dict:
        """The first such event, of those kept or of those to come. Others are kept."""
        at = 0
        while True:
            if at == len(self._heard):
                self._heard.append(self._connection.push())
            name, data = self._heard[at]
            if name == event and wanted(data):
                del self._heard[at]
                return data
            at += 1

    # --- Rooms

    def _read(self, room: str) -> list:
        """Reads a room's log to its end."""
        found = next(each for each in self._request("room_list")["rooms"] if each["room"] == room)
        if room not in self._rooms:
            start = found["start"]["seq"], unb64(found["start"]["hash"], 32)
            self._rooms[room] = Room(unb64(room, 32), self._me, self._contacts, start)
        state, seen, more = self._rooms[room], [], True
        while more:
            page = self._request(
                "room_log", room=room, after_seq=state.seq, after_epoch=state.last_epoch, limit=200
            )
            for item in page["items"]:
                seen.append(self._take(state, item))
            more = page["more"]
        for data in found["receipts"]:
            self._take_receipt(data)
        return seen

    def _take(self, state: Room, item: dict):
        unknown = []
        for account, digest in state.accounts_in(item).items():
            try:
                known = self._contacts.get(account)
                if digest is not None and known.list(digest) is None:
                    unknown.append(account)
            except Refused:
                unknown.append(account)
        if unknown:
            self._ask_keys(unknown)
        return state.take(item)

    def _take_receipt(self, data: dict) -> None:
        receipt = Receipt.parse(data)
        state = self._rooms.get(b64(receipt.room))
        if state is None:
            return
        try:
            state.check_receipt(receipt)
        except Refused:
            # It does not count; if it was ahead of what was read, `room_list` shows it again.
            return
        self._receipts.append(receipt)

    def receive(self, text: str, room: str | None = None) -> dict:
        """Waits for a message with this text, and tells its sender "delivered" and "read"."""
        before: list = []
        while True:
            rooms = [room] if room else [each["room"] for each in self._request("room_list")["rooms"]]
            for each in rooms:
                for seen in self._read(each):
                    before.append([seen.what, seen.code])
                    if seen.what == "message" and epochs.body(seen.content, "text") == text:
                        return self._received(each, seen, before)
            self._wait("log")

    def _received(self, room: str, seen, before: list) -> dict:
        state = self._rooms[room]
        seq, header = state.seq, seen.message.header
        receipts = [state.receipt(kind, seq).json() for kind in ("delivered", "read")]
        self._request("receipt_send", receipts=receipts)
        return {"room": room, "from": header.sender, "n": header.n, "epoch": header.epoch, "items": before}

    def send(self, room: str, text: str) -> dict:
        """Reads the log to its end, announces an epoch if one is due, and sends a text."""
        self._read(room)
        state = self._rooms[room]
        self._ask_keys(list(state.members))
        announced = state.epoch_is_due(now())
        if announced:
            profile = None if state.profile is None else to_json(state.profile)
            self._request("epoch_announce", epoch=state.announce(now(), profile))
            self._read(room)
        message_id = os.urandom(16)
        message = state.seal(epochs.text_content(now(), text), message_id)
        answer = self._request("message_send", message=message.json())
        own = [seen for seen in self._read(room) if seen.message and seen.message.header.id == message_id]
        if [(seen.what, seen.content["body"]) for seen in own] != [("message", {"text": text})]:
            raise Refused("malformed", "the own message does not come back")
        # The same once more: it is stored once, and the answer is the first one.
        if self._request("message_send", message=message.json()) != answer:
            raise Refused("malformed", "sent twice, answered differently")
        return {"seq": answer["seq"], "epoch": message.header.epoch, "announced": announced}

    def send_content(self, room: str, content: str, spoil: bool = False) -> dict:
        """Sends any content, and tells what this reader makes of it. A spoiled one is signed as it is, and
        does not open."""
        self._read(room)
        message = self._rooms[room].seal(content.encode(), os.urandom(16))
        if spoil:
            ciphertext = bytes([message.ciphertext[0] ^ 1]) + message.ciphertext[1:]
            message = with_signature(replace(message, ciphertext=ciphertext), self._me.key.sign)
        self._request("message_send", message=message.json())
        (seen,) = self._read(room)
        return {"seen": [seen.what, seen.code]}

    def befriend(self, account: str) -> dict:
        """Asks, and waits until the other side has accepted."""
        self._request("friend_request", account=account, greeting="친구 할래?")
        self._wait("friend_accepted", lambda data: data["account"] == account)
        self._ask_keys([account])
        return {}

    def create(self, kind: str, others: list[str], name: str | None = None) -> dict:
        self._ask_keys(others)
        profile = None if name is None else to_json({"name": name})
        state, data = Room.create(self._me, self._contacts, kind, others, now(), profile)
        answer = self._request("room_create", **data)
        room = answer["room"]
        if answer["created"]:
            self._rooms[room] = state
        seen = self._read(room)
        return {
            "room": room,
            "created": answer["created"],
            "items": [[each.what, each.code] for each in seen],
        }

    def add(self, room: str, accounts: list[str]) -> dict:
        self._ask_keys(accounts)
        return self._change(room, lambda state, profile: state.add(accounts, now(), profile))

    def remove(self, room: str, account: str) -> dict:
        return self._change(room, lambda state, profile: state.remove(account, now(), profile))

    def _change(self, room: str, make) -> dict:
        self._read(room)
        state = self._rooms[room]
        self._ask_keys(list(state.members))
        profile = None if state.profile is None else to_json(state.profile)
        self._request("room_change", **make(state, profile))
        return {"items": [[each.what, each.code] for each in self._read(room)]}

    def try_password(self, account: str, password: str) -> dict:
        """A login for an account that lives on another device, up to the proof of the device."""
        login = opaque.Login(account, password)
        started = self._request("log_in_start", account=account, password=b64(login.ke1))
        ke3 = login.ke3(unb64(started["password"], 320), self._connection.transcript)
        self._request(
            "log_in", account=account, password=b64(ke3), device=b64(bytes(16)), proof=b64(bytes(64))
        )
        raise Refused("malformed", "logged in with a device that there is not")

    def announce(self, room: str) -> dict:
        """Announces an epoch though none is due."""
        self._read(room)
        state = self._rooms[room]
        self._ask_keys(list(state.members))
        profile = None if state.profile is None else to_json(state.profile)
        self._request("epoch_announce", epoch=state.announce(now(), profile))
        seen = self._read(room)
        return {"epoch": state.last_epoch, "items": [[each.what, each.code] for each in seen]}

    def wait_receipt(self, room: str, account: str, kind: str, seq: int) -> dict:
        while True:
            for receipt in self._receipts:
                found = b64(receipt.room), receipt.account, receipt.kind
                if found == (room, account, kind) and receipt.seq >= seq:
                    return {"seq": receipt.seq}
            self._take_receipt(self._wait("receipt")["receipt"])

    def look(self, room: str) -> dict:
        self._read(room)
        state = self._rooms[room]
        members = {member.account: member.role for member in state.members.values()}
        return {"profile": state.profile, "members": members, "blocked": state.blocked}


def with_signature(record, sign):
    """The same record, signed."""
    return replace(record, signature=sign(record.signed_bytes()))


COMMANDS = {
    "server_info",
    "sign_up",
    "log_in",
    "recover",
    "accept",
    "safety_number",
    "receive",
    "send",
    "befriend",
    "send_content",
    "create",
    "add",
    "remove",
    "try_password",
    "announce",
    "wait_receipt",
    "look",
}


def talk(link: str) -> None:
    """Does what the lines of standard input say, `{"do": command, ...}`, and answers each with a line:
    `{"done": ...}` or `{"refused": code, "by_server": bool, "why": ...}`."""
    client = Client(link)
    for line in sys.stdin:
        arguments = json.loads(line)
        command = arguments.pop("do")
        if command not in COMMANDS:
            raise SystemExit(f"no such command: {command}")
        try:
            answer = {"done": getattr(client, command)(**arguments)}
        except Refused as error:
            answer = {"refused": error.code, "by_server": isinstance(error, Answered), "why": str(error)}
        print(json.dumps(answer), flush=True)
