"""Keys of an epoch, its wraps, chains and messages: e2ee.md, sections 8 and 9."""

import os
from dataclasses import dataclass, replace
from typing import Any

from .canonical import H, Refused, T, pad, parse_json, sha256, to_json, unpad
from .primitives import RsaPrivate, RsaPublic, XWing, gcm_open, gcm_seal, hkdf, mac, same, xwing_encapsulate
from .records import Announcement, Certificate, Header, Message, Prekey, Wrap

OAEP_LABEL = "mildam/oaep/v1"


# --- Wraps


@dataclass(frozen=True)
class Opened:
    """A wrap that was opened, with everything on the way."""

    s1: bytes
    s2: bytes
    info: bytes
    kek: bytes
    room_key: bytes


def wrap(room_key: bytes, announcement: Announcement, certificate: Certificate, prekey: Prekey) -> Wrap:
    s1 = os.urandom(32)
    s2, c2 = xwing_encapsulate(prekey.public)
    c1 = RsaPublic(certificate.wrap_key).encrypt(s1, OAEP_LABEL)
    sealed = Wrap(certificate.account, certificate.device, prekey.hash(), c1, c2)
    info = sealed.info(announcement, certificate.wrap_key)
    kek = hkdf("mildam/wrap/v1", s1 + s2, info)
    return replace(sealed, key=gcm_seal(kek, bytes(12), room_key, info))


def unwrap(sealed: Wrap, announcement: Announcement, wrap_key: RsaPrivate, prekeys: list[XWing]) -> Opened:
    """Opens a wrap. What fails before the last step is replaced by random bytes."""
    try:
        s1 = wrap_key.decrypt(sealed.rsa, OAEP_LABEL)
    except Refused:
        s1 = os.urandom(32)
    try:
        prekey = next((each for each in prekeys if sha256(each.public) == sealed.prekey), XWing())
        s2 = prekey.decapsulate(sealed.kem)
    except Refused:
        s2 = os.urandom(32)
    info = sealed.info(announcement, wrap_key.public.spki)
    kek = hkdf("mildam/wrap/v1", s1 + s2, info)
    return Opened(s1, s2, info, kek, gcm_open(kek, bytes(12), sealed.key, info))


# --- The profile


def profile_key(room_key: bytes, room: bytes, epoch: int) -> bytes:
    return hkdf("mildam/profile-key/v1", room_key, T("mildam/profile-key/v1", room, epoch))


def profile_aad(room: bytes, epoch: int) -> bytes:
    return T("mildam/profile/v1", room, epoch)


def profile_hash(sealed: bytes) -> bytes:
    return H("mildam/sealed-profile/v1", sealed)


def seal_profile(room_key: bytes, room: bytes, epoch: int, profile: bytes) -> bytes:
    iv = os.urandom(12)
    return iv + gcm_seal(profile_key(room_key, room, epoch), iv, pad(profile), profile_aad(room, epoch))


def open_profile(room_key: bytes, room: bytes, epoch: int, sealed: bytes) -> bytes:
    """The profile's JSON."""
    key = profile_key(room_key, room, epoch)
    return unpad(gcm_open(key, sealed[:12], sealed[12:], profile_aad(room, epoch)))


def check_profile(value: Any) -> dict:
    """Keys that are not known are passed over."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise Refused("malformed", "profile")
    if not isinstance(value.get("topic") or "", str) or not isinstance(value.get("picture") or "", str):
        raise Refused("malformed", "profile")
    return value


# --- Chains and message keys


def first_chain_key(room_key: bytes, room: bytes, epoch: int, device: bytes) -> bytes:
    return hkdf("mildam/chain/v1", room_key, T("mildam/chain/v1", room, epoch, device))


def step(chain_key: bytes) -> tuple[bytes, bytes]:
    """The message key, and the next chain key."""
    return mac(chain_key, b"\1"), mac(chain_key, b"\2")


@dataclass(frozen=True)
class MessageKeys:
    key: bytes
    iv: bytes
    commit: bytes

    @classmethod
    def derive(cls, message_key: bytes, salt: bytes) -> "MessageKeys":
        okm = hkdf(salt, message_key, T("mildam/message/v1"), 76)
        return cls(okm[:32], okm[32:44], okm[44:])


def seal_message(keys: MessageKeys, header: Header, content: bytes) -> Message:
    """A message without its signature."""
    return Message(header, gcm_seal(keys.key, keys.iv, pad(content), header.bytes()))


def open_message(keys: MessageKeys, message: Message) -> bytes:
    if not same(keys.commit, message.header.commit):
        raise Refused("does_not_open", "commit")
    return unpad(gcm_open(keys.key, keys.iv, message.ciphertext, message.header.bytes()))


def text_content(sent_at: int, text: str) -> bytes:
    return to_json({"sent_at": sent_at, "body": {"text": text}})


def parse_content(content: bytes) -> dict:
    """Bodies of a form that is not known are kept as they came."""
    try:
        value = parse_json(content)
    except Refused:
        raise Refused("malformed_content") from None
    if not isinstance(value, dict) or type(value.get("sent_at")) is not int or "body" not in value:
        raise Refused("malformed_content")
    return value


def body(content: dict, kind: str) -> Any:
    """What a body of this kind holds, or nothing if it is another one."""
    inner = content["body"]
    return inner[kind] if isinstance(inner, dict) and list(inner) == [kind] else None
