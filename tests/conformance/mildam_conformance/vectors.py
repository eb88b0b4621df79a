"""Computes every value of docs/vectors anew.

The vectors are read through `watch`, which notes every value that is looked at: a value that nobody
looked at is a fault, so nothing that is added to the vectors goes unchecked. `Check.same` compares a
value of the vectors with one that was computed from the private keys and records alone.
"""

import re
from pathlib import Path
from typing import Any, Callable, Iterator

from . import epochs, recovery
from .canonical import (
    ZERO,
    List,
    Opt,
    Refused,
    T,
    b64,
    pad,
    padded_length,
    parse_json,
    sha256,
    to_json,
    unb64,
    unpad,
)
from .primitives import Ed25519, RsaPrivate, XWing, ed25519_verify
from .records import (
    AccountKeys,
    Announcement,
    Message,
    Receipt,
    RoomChange,
    Wrap,
    log_hash,
    login_bytes,
    recover_bytes,
    recovered_bytes,
    safety_number,
    wrap_key_fingerprint,
)
from .session import (
    IV,
    SESSION_KEY_LABEL,
    ClientSetUp,
    SessionKeys,
    open_answer,
    open_request,
    seal_request,
    set_up_bytes,
)


class WatchedObject(dict):
    def __init__(self, value: dict, path: str, unseen: set):
        super().__init__((key, watch(each, f"{path}.{key}", unseen)) for key, each in value.items())
        self._path, self._unseen = path, unseen

    def __getitem__(self, key: str) -> Any:
        self._unseen.discard(f"{self._path}.{key}")
        return super().__getitem__(key)

    def values(self):
        return [self[key] for key in self]

    def items(self):
        return [(key, self[key]) for key in self]

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default


class WatchedList(list):
    def __init__(self, value: list, path: str, unseen: set):
        super().__init__(watch(each, f"{path}[{at}]", unseen) for at, each in enumerate(value))
        self._path, self._unseen = path, unseen

    def __getitem__(self, at: int) -> Any:
        self._unseen.discard(f"{self._path}[{at}]")
        return super().__getitem__(at)

    def __iter__(self):
        return (self[at] for at in range(len(self)))


def watch(value: Any, path: str, unseen: set) -> Any:
    """The same value; its paths are in `unseen` until somebody looks at them."""
    unseen.add(path)
    match value:
        case dict():
            return WatchedObject(value, path, unseen)
        case list():
            return WatchedList(value, path, unseen)
    return value


class Check:
    """Counts what agreed and keeps what did not."""

    def __init__(self) -> None:
        self.values = self.records = 0
        self.faults: list[str] = []

    def same(self, what: str, given: Any, computed: Any) -> None:
        """A value of the vectors against the computed one; bytes stand there as b64."""
        computed = b64(computed) if isinstance(computed, bytes) else computed
        self.values += 1
        if given != computed:
            self.faults.append(f"{what}: the vectors say {given!r}, the text gives {computed!r}")

    def holds(self, what: str, check: Callable[[], Any]) -> Any:
        """A record that must verify, open or parse."""
        self.records += 1
        try:
            return check()
        except Refused as error:
            self.faults.append(f"{what}: {error}")
            return None

    def refused(self, what: str, check: Callable[[], Any]) -> None:
        """Something that must not be taken."""
        self.records += 1
        try:
            check()
        except Refused:
            return
        self.faults.append(f"{what} was taken")


# --- protocol.json


def blocks(name: str):
    """The random bytes of a side."""
    counter = 0
    while True:
        yield sha256(name.encode() + counter.to_bytes(8, "big"))
        counter += 1


def protocol(check: Check, v: Any) -> None:
    v["about"]
    client_key = RsaPrivate(unb64(v["client_key_pkcs8"]))
    server_key = RsaPrivate(unb64(v["server_key_pkcs8"]))
    binding = unb64(v["channel_binding"], 32)
    check.same("server_fingerprint", v["server_fingerprint"], sha256(server_key.public.spki))

    texts = v["set_up"]
    names = ("1_server_greeting", "2_client_key", "3_session_key", "4_client_confirmation")
    payloads = [texts[name].encode() for name in names]
    parsed = [watch(parse_json(each), name, set()) for name, each in zip(names, payloads)]
    last = texts["5_server_confirmation"].encode()
    server, client = blocks("server"), blocks("client")

    # The client's side, as a client runs it.
    nonce = next(client)
    set_up = ClientSetUp(unb64(v["server_fingerprint"]), binding, client_key, nonce)
    check.same("2_client_key", texts["2_client_key"], set_up.greeting(payloads[0]).decode())
    check.same(
        "4_client_confirmation", texts["4_client_confirmation"], set_up.session_key(payloads[2]).decode()
    )
    check.holds("5_server_confirmation", lambda: set_up.confirmation(last))
    mine = to_json({**parse_json(last), "confirm": b64(set_up.keys.confirm_4())})
    check.refused("5: the client's own confirmation", lambda: set_up.confirmation(mine))

    # The server's, as far as it is not random; and the same from the parts.
    check.same("1: server key", parsed[0]["publicKey"], server_key.public.spki)
    check.same("1: nonce", parsed[0]["nonce"], next(server))
    sealed = unb64(parsed[2]["sessionKey"], 384)
    secret = client_key.decrypt(sealed, SESSION_KEY_LABEL)
    check.same("3: the 32 bytes", b64(secret), next(server))
    signed = set_up_bytes(payloads[0], payloads[1], sealed, binding)
    signature = unb64(parsed[2]["signature"], 384)
    check.holds("3: signature", lambda: server_key.public.verify(signature, signed))
    without = set_up_bytes(payloads[0], payloads[1], sealed, None)
    check.refused("3: signature without the binding", lambda: server_key.public.verify(signature, without))
    keys = SessionKeys.derive(secret, payloads[:3], binding)
    check.same("transcript", texts["transcript"], keys.transcript)
    check.same("client_to_server_key", texts["client_to_server_key"], keys.client_to_server)
    check.same("server_to_client_key", texts["server_to_client_key"], keys.server_to_client)
    check.same("client_confirm_key", texts["client_confirm_key"], keys.client_confirm)
    check.same("server_confirm_key", texts["server_confirm_key"], keys.server_confirm)
    check.same("5: confirm", parse_json(last)["confirm"], keys.confirm_5())

    for at, request in enumerate(v["session"]["requests"]):
        payload, plain = unb64(request["payload"]), request["plain"]
        what = f"requests[{at}]"
        key = keys.client_to_server
        check.same(what, plain, check.holds(what, lambda: open_request(key, at, payload).decode()))
        check.same(what, b64(payload), seal_request(key, at, plain.encode(), payload[:IV]))
        check.refused(f"{what} at another position", lambda: open_request(key, at + 1, payload))
        check.same(f"{what}: JSON", plain, to_json(parse_json(plain)).decode())
    for at, answer in enumerate(v["session"]["answers"]):
        payload, plain = answer["payload"].encode(), answer["plain"]
        what = f"answers[{at}]"
        key = keys.server_to_client
        opened = check.holds(what, lambda: open_answer(key, at, payload))
        check.same(what, plain, opened and opened[1].decode())
        check.refused(f"{what} at another position", lambda: open_answer(key, at + 1, payload))
        for field in ("id", "code", "message"):
            if field in parse_json(payload):
                other = {**parse_json(payload), field: 7 if field == "id" else "other"}
                check.refused(f"{what} with another {field}", lambda: open_answer(key, at, to_json(other)))


# --- e2ee.json


def canonical_field(value: Any) -> Any:
    ((kind, inner),) = value.items()
    match kind:
        case "text" | "integer":
            return inner
        case "bytes":
            return unb64(inner)
        case "optional":
            return Opt(None if inner is None else unb64(inner))
        case "list":
            return List([tuple(map(canonical_field, element)) for element in inner])
    raise Refused("malformed", f"a field of kind {kind}")


class Private:
    """The private keys of an account in the vectors."""

    def __init__(self, v: Any):
        self.identity = RsaPrivate(unb64(v["identity_key"]))
        self.wrap_key = RsaPrivate(unb64(v["wrap_key"]))
        self.device = Ed25519(unb64(v["device_key"], 32))
        self.prekey = XWing(unb64(v["prekey"], 32))


def account(check: Check, name: str, v: Any) -> tuple[Private, AccountKeys]:
    private = Private(v["private"])
    d = v["derived"]
    keys = check.holds(f"{name}: account keys", lambda: AccountKeys.parse(v["keys"]))
    (devices,), (prekey,) = keys.lists, keys.prekeys
    (certificate,) = devices.certificates

    # The public keys belong to the private ones.
    check.same(f"{name}: identity key", v["keys"]["identity_key"], private.identity.public.spki)
    check.same(f"{name}: wrap key", b64(certificate.wrap_key), private.wrap_key.public.spki)
    check.same(f"{name}: device key", b64(certificate.device_key), private.device.public)
    check.same(f"{name}: prekey", b64(prekey.public), private.prekey.public)
    # Ed25519 is deterministic, so the signatures themselves can be made again.
    signed = certificate.signed_bytes()
    check.same(f"{name}: certificate bytes", d["certificate_bytes"], signed)
    check.same(f"{name}: certificate signature", b64(certificate.signature), private.device.sign(signed))
    check.same(f"{name}: prekey bytes", d["prekey_bytes"], prekey.signed_bytes())
    check.same(f"{name}: prekey signature", b64(prekey.signature), private.device.sign(prekey.signed_bytes()))
    check.same(f"{name}: prekey hash", d["prekey_hash"], prekey.hash())
    check.same(f"{name}: list bytes", d["list_bytes"], devices.signed_bytes())
    check.same(f"{name}: list hash", d["list_hash"], devices.hash())
    check.same(f"{name}: list as JSON", v["keys"]["lists"][0], devices.json())
    check.same(f"{name}: prekey as JSON", v["keys"]["prekeys"][0], prekey.json())
    check.same(f"{name}: identity fingerprint", d["identity_fingerprint"], keys.fingerprint())
    fingerprint = wrap_key_fingerprint(private.wrap_key.public.spki)
    check.same(f"{name}: wrap key fingerprint", d["wrap_key_fingerprint"], fingerprint)

    login = login_bytes(keys.account, certificate.device, unb64(v["login"]["transcript"], 32))
    check.same(f"{name}: login bytes", d["login_bytes"], login)
    check.same(f"{name}: login proof", v["login"]["proof"], private.device.sign(login))

    words(check, name, v["recovery"], d["recovery"], private, keys)
    return private, keys


def other_checksum(words: list[str], language: str) -> str:
    """The same words, but for the lowest bit of the last one, which belongs to the checksum."""
    known = recovery.word_list(language)
    return " ".join([*words[:-1], known[known.index(words[-1]) ^ 1]])


def words(check: Check, name: str, r: Any, d: Any, private: Private, keys: AccountKeys) -> None:
    secret = unb64(d["entropy"], 16)
    for language in recovery.LANGUAGES:
        given = list(r[language])
        check.same(f"{name}: words in {language}", given, recovery.words(secret, language))
        text = "  " + "\t".join(given).upper()
        check.same(
            f"{name}: entropy of them", d["entropy"], check.holds("words", lambda: recovery.entropy(text))
        )
        check.refused(f"{name}: 11 words", lambda: recovery.entropy(" ".join(given[1:])))
        check.refused(f"{name}: a wrong checksum", lambda: recovery.entropy(other_checksum(given, language)))
    check.same(f"{name}: sealing key", d["key"], recovery.sealing_key(secret, keys.account))
    check.same(f"{name}: sealing AAD", d["aad"], recovery.sealing_aad(keys.account, keys.fingerprint()))
    sealed = unb64(r["sealed_identity"])
    opened = recovery.open_identity(secret, keys.account, keys.fingerprint(), sealed)
    check.same(f"{name}: sealed identity", b64(private.identity.pkcs8), opened)
    seed = recovery.recovery_seed(secret, keys.account)
    check.same(f"{name}: seed of the recovery key", d["auth_seed"], seed)
    key = Ed25519(seed)
    check.same(f"{name}: recovery key", r["recovery_key"], key.public)
    transcript = unb64(r["transcript"], 32)
    recover = recover_bytes(keys.account, transcript)
    check.same(f"{name}: recover bytes", d["recover_bytes"], recover)
    check.same(f"{name}: recover proof", r["proof"], key.sign(recover))
    device, digest = keys.newest().certificates[0].device, keys.newest().hash()
    record = unb64(r["password_record"])
    recovered = recovered_bytes(keys.account, device, transcript, record, digest)
    check.same(f"{name}: recovered bytes", d["recovered_bytes"], recovered)
    check.same(f"{name}: recovered proof", r["recovered_proof"], private.device.sign(recovered))


def room(check: Check, v: Any, accounts: dict[str, tuple[Private, AccountKeys]]) -> None:
    d = v["derived"]
    log = list(v["log"])
    created, announced, *said = log

    change = check.holds("created", lambda: RoomChange.parse(created["entry"]["entry"]["change"]))
    check.same("created: JSON", created["entry"]["entry"]["change"], change.json())
    check.same("created: bytes", d["created"]["bytes"], change.signed_bytes())
    check.same("created: hash", d["created"]["hash"], change.hash())
    check.same("room id", v["id"], change.hash())
    signature(check, "created", accounts, change.actor, change)
    check.same("created: list", b64(change.actor_list), accounts[change.actor][1].newest().hash())
    for member in change.values[3]:
        check.same("created: identity", b64(member.identity), accounts[member.account][1].fingerprint())
    position = log_hash(change.hash(), created["entry"]["seq"], ZERO, change.hash())
    check.same("created: log hash", d["created"]["log_hash"], position)

    r, of_replacement = v["replacement"], d["replacement"]
    replacement = check.holds("replacement", lambda: RoomChange.parse(r))
    check.same("replacement: JSON", r, replacement.json())
    check.same("replacement: bytes", of_replacement["bytes"], replacement.signed_bytes())
    check.same("replacement: hash", of_replacement["hash"], replacement.hash())
    check.same("replacement: room", v["id"], replacement.values[4])
    check.same("replacement: head", d["created"]["hash"], replacement.values[5])
    signature(check, "replacement", accounts, replacement.actor, replacement)

    announcement = check.holds("epoch", lambda: Announcement.parse(announced["epoch"]["announcement"]))
    check.same("epoch: JSON", announced["epoch"]["announcement"], announcement.json())
    e = d["epoch"]
    check.same("epoch: after", announced["epoch"]["after"], created["entry"]["seq"])
    check.same("epoch: committed bytes", e["committed_bytes"], announcement.committed_bytes())
    check.same("epoch: signed bytes", e["signed_bytes"], announcement.signed_bytes())
    check.same("epoch: hash", e["hash"], announcement.hash())
    signature(check, "epoch", accounts, announcement.announcer, announcement)
    recipients = [(name, keys.newest().hash()) for name, (_, keys) in sorted(accounts.items())]
    check.same("epoch: recipients", list(announcement.recipients), recipients)
    check.same("epoch: head", b64(announcement.head), change.hash())
    check.same("epoch: seen", (announcement.seen_seq, announcement.seen_hash), (0, ZERO))
    room_key = unb64(e["room_key"], 32)
    check.same("epoch: commitment", b64(announcement.commitment), announcement.commit(room_key))

    devices = {}
    for name, (private, keys) in accounts.items():
        wrap = check.holds("wrap", lambda: Wrap.parse(v["wraps"][name]))
        check.same(f"{name}: wrap as JSON", v["wraps"][name], wrap.json())
        certificate = keys.newest().certificates[0]
        devices[certificate.device] = name
        check.same(f"{name}: wrap's device", b64(wrap.device), certificate.device)
        check.same(f"{name}: wrap's prekey", b64(wrap.prekey), keys.prekeys[0].hash())
        opened = check.holds(
            f"{name}: wrap", lambda: epochs.unwrap(wrap, announcement, private.wrap_key, [private.prekey])
        )
        for part in ("s1", "s2", "info", "kek"):
            check.same(f"{name}: {part}", e["wraps"][name][part], getattr(opened, part))
        check.same(f"{name}: room key", e["room_key"], opened.room_key)
        other = next(each for owner, (each, _) in accounts.items() if owner != name)
        check.refused(
            f"{name}: wrap without the prekey",
            lambda: epochs.unwrap(wrap, announcement, private.wrap_key, [other.prekey]),
        )
        check.refused(
            f"{name}: wrap without the wrap key",
            lambda: epochs.unwrap(wrap, announcement, other.wrap_key, [private.prekey]),
        )
        chain = epochs.first_chain_key(room_key, change.hash(), announcement.epoch, certificate.device)
        check.same(f"{name}: chain", e["chains"][name], chain)

    sealed = unb64(announced["epoch"]["profile"])
    p = e["profile"]
    check.same("profile: hash", b64(announcement.profile), epochs.profile_hash(sealed))
    check.same("profile: key", p["key"], epochs.profile_key(room_key, change.hash(), announcement.epoch))
    check.same("profile: AAD", p["aad"], epochs.profile_aad(change.hash(), announcement.epoch))
    opened = check.holds("profile", lambda: epochs.open_profile(room_key, change.hash(), 1, sealed))
    check.same("profile: JSON", p["json"], opened.decode())
    check.holds("profile: form", lambda: epochs.check_profile(parse_json(opened)))

    times = [created["entry"]["stored_at"], announced["epoch"]["stored_at"]]
    chains = {name: unb64(e["chains"][name]) for name in accounts}
    for at, item in enumerate(said):
        position = message(
            check, f"messages[{at}]", item["entry"], d["messages"][at], position, chains, accounts
        )
        times.append(item["entry"]["stored_at"])
    check.same("times of storage", times, sorted(times))

    check.same("end: seq", v["end"]["seq"], said[-1]["entry"]["seq"])
    check.same("end: hash", v["end"]["hash"], position)
    receipt = check.holds("receipt", lambda: Receipt.parse(v["receipt"]))
    check.same("receipt: JSON", v["receipt"], receipt.json())
    check.same("receipt: bytes", d["receipt_bytes"], receipt.signed_bytes())
    check.same("receipt: position", (b64(receipt.hash), receipt.seq), (b64(position), v["end"]["seq"]))
    signature(check, "receipt", accounts, receipt.account, receipt)


def signature(check: Check, what: str, accounts: dict, account_id: str, record: Any) -> None:
    """Verifies it, and makes it again: Ed25519 is deterministic."""
    private, keys = accounts[account_id]
    public = keys.newest().certificates[0].device_key
    check.holds(what, lambda: ed25519_verify(public, record.signature, record.signed_bytes()))
    check.same(f"{what}: signature", b64(record.signature), private.device.sign(record.signed_bytes()))


def message(check, what, entry, d, position, chains, accounts) -> bytes:
    """The log hash after the message."""
    record = check.holds(what, lambda: Message.parse(entry["entry"]["message"]))
    header = record.header
    check.same(f"{what}: JSON", entry["entry"]["message"], record.json())
    check.same(f"{what}: header bytes", d["header_bytes"], header.bytes())
    check.same(f"{what}: signed bytes", d["signed_bytes"], record.signed_bytes())
    check.same(f"{what}: hash", d["hash"], record.hash())
    signature(check, what, accounts, header.sender, record)
    check.same(f"{what}: n", header.n, 0)
    check.same(f"{what}: seen", (header.seen_seq, b64(header.seen_hash)), (entry["seq"] - 1, b64(position)))
    chain = chains[header.sender]
    check.same(f"{what}: chain key", d["chain_key"], chain)
    message_key, chains[header.sender] = epochs.step(chain)
    check.same(f"{what}: message key", d["message_key"], message_key)
    check.same(f"{what}: next chain key", d["next_chain_key"], chains[header.sender])
    keys = epochs.MessageKeys.derive(message_key, header.salt)
    check.same(f"{what}: key", d["key"], keys.key)
    check.same(f"{what}: iv", d["iv"], keys.iv)
    check.same(f"{what}: commit", b64(header.commit), keys.commit)
    content = check.holds(what, lambda: epochs.open_message(keys, record))
    check.same(f"{what}: content", d["content"], content.decode())
    value = check.holds(f"{what}: form", lambda: epochs.parse_content(content))
    again = epochs.text_content(value["sent_at"], value["body"]["text"])
    check.same(
        f"{what}: ciphertext", b64(record.ciphertext), epochs.seal_message(keys, header, again).ciphertext
    )
    position = log_hash(header.room, entry["seq"], position, record.hash())
    check.same(f"{what}: log hash", d["log_hash"], position)
    return position


def e2ee(check: Check, v: Any) -> None:
    v["about"]
    for at, each in enumerate(v["canonical"]):
        fields = map(canonical_field, each["fields"])
        check.same(f"canonical[{at}]", each["bytes"], T(each["label"], *fields))
    padding = v["padding"]
    for each in padding["lengths"]:
        check.same("padded length", each["padded"], padded_length(each["content"]))
        check.same("padded length", each["padded"], len(pad(bytes(each["content"]))))
    content = unb64(padding["example"]["content"])
    check.same("padding", padding["example"]["padded"], pad(content))
    check.same("padding", b64(content), unpad(unb64(padding["example"]["padded"])))
    check.refused("padding that is longer", lambda: unpad(pad(content) + b"\0"))

    accounts = {name: account(check, name, each) for name, each in v["accounts"].items()}
    pair = [(name, keys.fingerprint()) for name, (_, keys) in accounts.items()]
    for one, other in (pair, pair[::-1]):
        material, data, digits = safety_number(one, other)
        check.same("safety number: material", v["safety_number"]["material"], material)
        check.same("safety number: bytes", v["safety_number"]["bytes"], data)
        check.same("safety number: digits", v["safety_number"]["digits"], digits)
    room(check, v["room"], accounts)


FILES = (("protocol.json", protocol), ("e2ee.json", e2ee))


def examine(name: str, compute: Callable, vectors: Any) -> tuple[Check, int]:
    """Checks one file of vectors; tells what came of it, and how many keys it has."""
    check, unseen = Check(), set()
    watched = watch(vectors, name, unseen)
    unseen.discard(name)
    total = len(unseen)
    try:
        compute(check, watched)
    except (Refused, ValueError, TypeError, LookupError, AttributeError) as error:
        check.faults.append(f"{name} cannot be checked to its end: {error!r}")
    check.faults += [f"{path} was not looked at" for path in sorted(unseen)]
    return check, total


def run(folder: Path) -> bool:
    """Checks all vectors, prints what is wrong and a summary, and tells whether all is well."""
    checks = [examine(name, compute, parse_json((folder / name).read_bytes())) for name, compute in FILES]
    faults = [fault for check, _ in checks for fault in check.faults]
    for fault in faults:
        print(fault)
    values, records = (sum(getattr(check, what) for check, _ in checks) for what in ("values", "records"))
    verdict = "all agree" if not faults else f"{len(faults)} FAULTS"
    print(
        f"vectors: {values} values computed anew, {records} records verified, opened or refused, "
        f"{sum(total for _, total in checks)} keys of the vectors visited; {verdict}"
    )
    return not faults


# --- Whether the checks can fail


# Where another value can be as good: remarks, the server's words to people in payload 5 (its MAC is tried
# above), lengths that share their padded length, and the relay's clock, of which only the order is checked.
FREE = re.compile(r"\.about$|\.5_server_confirmation$|\.lengths\[\d+\]\.content$|\.stored_at$")


def leaves(value: Any, path: str, put: Callable) -> Iterator[tuple[str, Any, Callable]]:
    match value:
        case dict():
            for key, each in value.items():
                yield from leaves(each, f"{path}.{key}", lambda new, key=key: value.__setitem__(key, new))
        case list():
            for at, each in enumerate(value):
                yield from leaves(each, f"{path}[{at}]", lambda new, at=at: value.__setitem__(at, new))
        case _:
            yield path, value, put


def changed(value: Any) -> Any:
    """Another value of the same kind: for a text, another character in the middle."""
    match value:
        case None:
            return b64(ZERO)
        case int():
            return value + 1
        case "":
            return "x"
        case str():
            at = len(value) // 2
            return value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]
    raise TypeError(type(value))


def mutate(folder: Path) -> bool:
    """Changes every single value of the vectors, and tells whether each change was noticed."""
    tried, missed = 0, []
    for name, compute in FILES:
        vectors = parse_json((folder / name).read_bytes())
        for path, value, put in leaves(vectors, name, lambda _new: None):
            if FREE.search(path):
                continue
            tried += 1
            put(changed(value))
            if not examine(name, compute, vectors)[0].faults:
                missed.append(path)
            put(value)
    for path in missed:
        print(f"{path} was changed, and nobody noticed")
    print(f"mutations: {tried} values changed, one at a time; {tried - len(missed)} noticed")
    return not missed
