"""Canonical bytes, b64 and JSON: e2ee.md, section 1, and the padding of section 9."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

ZERO = bytes(32)
MAX_CONTENT = 96_255


class Refused(Exception):
    """Something does not follow the text. `code` is the refusal's code, if the text names one."""

    def __init__(self, code: str, why: str = ""):
        super().__init__(f"{code}: {why}" if why else code)
        self.code = code


@dataclass(frozen=True)
class Opt:
    """An optional field."""

    value: Any


@dataclass(frozen=True)
class List:
    """A list field. Each element is the tuple of its fields."""

    elements: list


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _field(content: bytes) -> bytes:
    return u32(len(content)) + content


def _encode(value: Any) -> bytes:
    match value:
        case bool():
            raise TypeError("there are no booleans in canonical bytes")
        case int():
            return _field(u64(value))
        case str():
            return _field(value.encode())
        case bytes():
            return _field(value)
        case Opt(value=None):
            return b"\0"
        case Opt(value=inner):
            return b"\1" + _encode(inner)
        case List(elements=elements):
            joined = (b"".join(map(_encode, element)) for element in elements)
            return u32(len(elements)) + b"".join(map(_field, joined))
    raise TypeError(f"no canonical bytes for {type(value)}")


def T(label: str, *fields: Any) -> bytes:
    return _encode(label) + b"".join(map(_encode, fields))


def H(label: str, *fields: Any) -> bytes:
    return sha256(T(label, *fields))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: Any, length: int | None = None) -> bytes:
    if not isinstance(text, str):
        raise Refused("malformed", "not a text")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise Refused("malformed", f"not b64: {error}") from None
    # One text for one value: this refuses padding, unused bits and the other alphabet.
    if b64(data) != text:
        raise Refused("malformed", "not the one b64 text of its bytes")
    if length is not None and len(data) != length:
        raise Refused("malformed", f"{len(data)} bytes in place of {length}")
    return data


def parse_json(text: str | bytes) -> Any:
    """JSON without duplicate keys."""

    def once(pairs: list) -> dict:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise Refused("malformed", "a key comes twice")
        return fields

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", f"not JSON: {error}") from None


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Fields:
    """A JSON object of a known form: no unknown keys, none missing that must be there."""

    def __init__(self, value: Any, required: str, optional: str = ""):
        if not isinstance(value, dict):
            raise Refused("malformed", "not an object")
        needed, allowed = set(required.split()), set(required.split()) | set(optional.split())
        if not needed <= set(value) <= allowed:
            raise Refused("malformed", f"keys {sorted(value)}, not {sorted(needed)}")
        self.value = value

    def raw(self, key: str) -> Any:
        return self.value.get(key)

    def text(self, key: str) -> str:
        value = self.raw(key)
        if not isinstance(value, str):
            raise Refused("malformed", f"{key} is no text")
        return value

    def integer(self, key: str) -> int:
        value = self.raw(key)
        if type(value) is not int or not 0 <= value < 2**64:
            raise Refused("malformed", f"{key} is no integer")
        return value

    def bytes(self, key: str, length: int | None = None) -> bytes:
        return unb64(self.raw(key), length)

    def optional_bytes(self, key: str, length: int | None = None) -> "bytes | None":
        return None if self.raw(key) is None else self.bytes(key, length)

    def list(self, key: str) -> list:
        value = self.raw(key)
        if not isinstance(value, list):
            raise Refused("malformed", f"{key} is no list")
        return value


def padded_length(content: int) -> int:
    length = content + 1
    if length <= 256:
        return 256
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def pad(content: bytes) -> bytes:
    if len(content) > MAX_CONTENT:
        raise Refused("too_large")
    return (content + b"\x80").ljust(padded_length(len(content)), b"\0")


def unpad(padded: bytes) -> bytes:
    content, mark, _zeros = padded.rpartition(b"\x80")
    if not mark or pad(content) != padded:
        raise Refused("does_not_open", "padding")
    return content
