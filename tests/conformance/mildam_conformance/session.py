"""Set-up and session: protocol.md, sections 4 and 5. Payloads in and out; carriers are elsewhere."""

import os
from dataclasses import dataclass
from typing import Any

from .canonical import Fields, Opt, Refused, T, b64, parse_json, sha256, to_json
from .primitives import RsaPrivate, RsaPublic, gcm_open, gcm_seal, hkdf, mac, same

SESSION_KEY_LABEL = "mildam/session-key/v1"
IV = 16
TAG = 16


@dataclass(frozen=True)
class SessionKeys:
    transcript: bytes
    client_to_server: bytes
    server_to_client: bytes
    client_confirm: bytes
    server_confirm: bytes

    @classmethod
    def derive(cls, secret: bytes, payloads: list[bytes], binding: bytes | None) -> "SessionKeys":
        """From the 32 bytes and payloads 1 to 3."""
        transcript = sha256(T("mildam/transcript/v1", *payloads, Opt(binding)))
        okm = hkdf(transcript, secret, T("mildam/session-keys/v1"), 128)
        return cls(transcript, *(okm[at : at + 32] for at in range(0, 128, 32)))

    def confirm_4(self) -> bytes:
        return mac(self.client_confirm, T("mildam/client-confirm/v1", self.transcript))

    def confirm_5(self) -> bytes:
        return mac(self.server_confirm, T("mildam/server-confirm/v1", self.transcript))


def set_up_bytes(payload_1: bytes, payload_2: bytes, sealed: bytes, binding: bytes | None) -> bytes:
    return T("mildam/set-up/v1", payload_1, payload_2, sealed, Opt(binding))


class ClientSetUp:
    """The client's side of the set-up, one method for each payload of the server."""

    def __init__(self, fingerprint: bytes, binding: bytes | None, key: RsaPrivate, nonce: bytes):
        self._fingerprint, self._binding, self._key, self._nonce = fingerprint, binding, key, nonce
        self._payloads: list[bytes] = []

    def greeting(self, payload: bytes) -> bytes:
        """Payload 2, the answer to payload 1."""
        f = Fields(_server(payload), "header publicKey protocol nonce")
        if f.integer("protocol") != 1:
            raise Refused("incompatible")
        spki = f.bytes("publicKey")
        if not same(sha256(spki), self._fingerprint):
            raise Refused("wrong_server", "not the fingerprint of the link")
        self._server_key = RsaPublic(spki)
        f.bytes("nonce", 32)
        answer = to_json({"publicKey": b64(self._key.public.spki), "nonce": b64(self._nonce)})
        self._payloads = [payload, answer]
        return answer

    def session_key(self, payload: bytes) -> bytes:
        """Payload 4, the answer to payload 3."""
        f = Fields(_server(payload), "header sessionKey signature")
        sealed = f.bytes("sessionKey", 384)
        signed = set_up_bytes(*self._payloads, sealed, self._binding)
        self._server_key.verify(f.bytes("signature", 384), signed)
        self.secret = self._key.decrypt(sealed, SESSION_KEY_LABEL)
        if len(self.secret) != 32:
            raise Refused("malformed", "session key")
        self.keys = SessionKeys.derive(self.secret, [*self._payloads, payload], self._binding)
        return to_json({"status": "session_key_received", "confirm": b64(self.keys.confirm_4())})

    def confirmation(self, payload: bytes) -> SessionKeys:
        f = Fields(_server(payload), "header confirm")
        if not same(f.bytes("confirm", 32), self.keys.confirm_5()):
            raise Refused("wrong_server", "confirmation")
        return self.keys


def _server(payload: bytes) -> dict:
    value = parse_json(payload)
    header = Fields(value.get("header") if isinstance(value, dict) else None, "status server_info message", "retry_after")
    status = header.text("status")
    header.text("server_info")
    message = header.text("message")
    if status != ("success" if "confirm" in value else "connecting"):
        raise Refused("set_up_failed", f"{status}: {message}")
    return value


# --- Session


def request_aad(position: int) -> bytes:
    return T("mildam/request/v1", position)


def answer_aad(position: int, value: dict) -> bytes:
    fields = (value["status"], *(Opt(value.get(key)) for key in ("id", "code", "message", "retry_after")))
    return T("mildam/answer/v1", position, *fields)


def seal_request(key: bytes, position: int, text: bytes, iv: bytes | None = None) -> bytes:
    iv = iv or os.urandom(IV)
    return iv + gcm_seal(key, iv, text, request_aad(position))


def open_request(key: bytes, position: int, payload: bytes) -> bytes:
    return gcm_open(key, payload[:IV], payload[IV:], request_aad(position))


def open_answer(key: bytes, position: int, payload: bytes) -> tuple[dict, bytes]:
    """What stands in clear, and the text."""
    value = parse_json(payload)
    if isinstance(value, dict) and value.get("status") == "success":
        f = Fields(value, "status data", "id")
        sealed = f.bytes("data")
    else:
        f = Fields(value, "status code message proof", "id retry_after")
        if f.text("status") not in ("invalid", "fail"):
            raise Refused("malformed", "status")
        f.text("code")
        f.text("message")
        sealed = f.bytes("proof", IV + TAG)
    if f.raw("id") is not None:
        f.integer("id")
    return value, gcm_open(key, sealed[:IV], sealed[IV:], answer_aad(position, value))


class Session:
    """An active session of the client: seals requests and opens answers, each at its position."""

    def __init__(self, keys: SessionKeys):
        self.transcript = keys.transcript
        self._out, self._in = keys.client_to_server, keys.server_to_client
        self._sent = self._received = 0

    def request(self, value: Any) -> bytes:
        payload = seal_request(self._out, self._sent, to_json(value))
        self._sent += 1
        return payload

    def answer(self, payload: bytes) -> tuple[dict, Any]:
        value, text = open_answer(self._in, self._received, payload)
        self._received += 1
        return value, parse_json(text) if text else None
