"""The client of OPAQUE-3DH (RFC 9807) over ristretto255-SHA512 (RFC 9497): protocol.md, section 6.

Names are those of the RFCs.
"""

import hashlib
import hmac
import os
import unicodedata
from dataclasses import dataclass

import rbcl
from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .canonical import Refused, T

NN = NSEED = NPK = 32
NH = NM = 64
_CONTEXT_STRING = b"OPRFV1-" + b"\0" + b"-ristretto255-SHA512"
_IDENTITY = bytes(32)


def i2osp(value: int, length: int) -> bytes:
    return value.to_bytes(length, "big")


def _hash(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha512")


def _extract(ikm: bytes) -> bytes:
    """Extract without a salt, which is a salt of zeros."""
    return hmac.digest(bytes(NH), ikm, "sha512")


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA512(), length, info).derive(key)


# --- RFC 9380 and RFC 9497


def _expand_message_xmd(message: bytes, dst: bytes) -> bytes:
    """64 bytes: one block of SHA-512."""
    dst_prime = dst + i2osp(len(dst), 1)
    b_0 = _hash(bytes(128) + message + i2osp(64, 2) + i2osp(0, 1) + dst_prime)
    return _hash(b_0 + i2osp(1, 1) + dst_prime)


def _hash_to_group(data: bytes) -> bytes:
    uniform = _expand_message_xmd(data, b"HashToGroup-" + _CONTEXT_STRING)
    return rbcl.crypto_core_ristretto255_from_hash(uniform)


def _element(data: bytes) -> bytes:
    if len(data) != 32 or data == _IDENTITY or not rbcl.crypto_core_ristretto255_is_valid_point(data):
        raise Refused("malformed", "not an element of ristretto255")
    return data


def _multiply(scalar: bytes, element: bytes) -> bytes:
    return rbcl.crypto_scalarmult_ristretto255(scalar, element)


def _blind(data: bytes) -> tuple[bytes, bytes]:
    scalar = rbcl.crypto_core_ristretto255_scalar_random()
    return scalar, _multiply(scalar, _hash_to_group(data))


def _finalize(data: bytes, blind: bytes, evaluated: bytes) -> bytes:
    element = _multiply(rbcl.crypto_core_ristretto255_scalar_invert(blind), _element(evaluated))
    parts = i2osp(len(data), 2) + data + i2osp(len(element), 2) + element
    return _hash(parts + b"Finalize")


def _derive_key_pair(seed: bytes, info: bytes) -> tuple[bytes, bytes]:
    derive_input = seed + i2osp(len(info), 2) + info
    for counter in range(256):
        uniform = _expand_message_xmd(derive_input + i2osp(counter, 1), b"DeriveKeyPair" + _CONTEXT_STRING)
        secret = rbcl.crypto_core_ristretto255_scalar_reduce(uniform)
        if secret != _IDENTITY:
            return secret, rbcl.crypto_scalarmult_ristretto255_base(secret)
    raise Refused("malformed", "no key pair")


# --- RFC 9807


def password_bytes(password: str) -> bytes:
    data = unicodedata.normalize("NFC", password).encode()
    if len(unicodedata.normalize("NFC", password)) < 8 or len(data) > 1_024:
        raise Refused("bad_password")
    return data


def _stretch(data: bytes) -> bytes:
    return hash_secret_raw(data, bytes(16), 3, 65_536, 1, NH, Type.ID, version=ARGON2_VERSION)


def _randomized_password(password: bytes, blind: bytes, evaluated: bytes) -> bytes:
    output = _finalize(password, blind, evaluated)
    return _extract(output + _stretch(output))


def _client_keys(randomized: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    seed = _expand(randomized, nonce + b"PrivateKey", NSEED)
    return _derive_key_pair(seed, b"OPAQUE-DeriveDiffieHellmanKeyPair")


def _auth_tag(randomized: bytes, nonce: bytes, server_key: bytes, account: bytes) -> bytes:
    """The envelope's tag; the server's identity is its public key."""
    identities = b"".join(i2osp(len(each), 2) + each for each in (server_key, account))
    auth_key = _expand(randomized, nonce + b"AuthKey", NH)
    return _mac(auth_key, nonce + server_key + identities)


def _masking_key(randomized: bytes) -> bytes:
    return _expand(randomized, b"MaskingKey", NH)


class Registration:
    def __init__(self, account: str, password: str):
        self._account, self._password = account.encode(), password_bytes(password)
        self._blind, self.request = _blind(self._password)

    def record(self, response: bytes) -> bytes:
        """RegistrationRecord (192 bytes) from RegistrationResponse (64 bytes)."""
        evaluated, server_key = response[:32], _element(response[32:])
        randomized = _randomized_password(self._password, self._blind, evaluated)
        nonce = os.urandom(NN)
        _, public = _client_keys(randomized, nonce)
        envelope = nonce + _auth_tag(randomized, nonce, server_key, self._account)
        return public + _masking_key(randomized) + envelope


@dataclass
class Login:
    """The client's state between KE1 and KE3."""

    account: str
    password: str

    def __post_init__(self) -> None:
        self._password = password_bytes(self.password)
        self._blind, blinded = _blind(self._password)
        self._secret, keyshare = _derive_key_pair(os.urandom(NSEED), b"OPAQUE-DeriveDiffieHellmanKeyPair")
        self.ke1 = blinded + os.urandom(NN) + keyshare

    def ke3(self, ke2: bytes, transcript: bytes) -> bytes:
        """KE3 (64 bytes) from KE2 (320 bytes), on the connection with this transcript."""
        if len(ke2) != 320:
            raise Refused("malformed", "KE2")
        response, server_nonce, keyshare, server_mac = ke2[:192], ke2[192:224], ke2[224:256], ke2[256:]
        evaluated, masking_nonce, masked = response[:32], response[32:64], response[64:]
        randomized = _randomized_password(self._password, self._blind, evaluated)
        info = masking_nonce + b"CredentialResponsePad"
        pad = _expand(_masking_key(randomized), info, NPK + NN + NM)
        opened = bytes(one ^ other for one, other in zip(pad, masked, strict=True))
        server_key, nonce, tag = opened[:32], opened[32:64], opened[64:]
        account = self.account.encode()
        if not hmac.compare_digest(tag, _auth_tag(randomized, nonce, server_key, account)):
            raise Refused("wrong_credentials", "the envelope does not open")
        private, _ = _client_keys(randomized, nonce)

        dh1 = _multiply(self._secret, _element(keyshare))
        dh2 = _multiply(self._secret, _element(server_key))
        dh3 = _multiply(private, keyshare)
        context = T("mildam/opaque/v1", transcript)
        preamble = b"OPAQUEv1-" + i2osp(len(context), 2) + context
        preamble += i2osp(len(account), 2) + account + self.ke1
        preamble += i2osp(len(server_key), 2) + server_key + response + server_nonce + keyshare
        handshake = _derive_secret(_extract(dh1 + dh2 + dh3), b"HandshakeSecret", _hash(preamble))
        km2 = _derive_secret(handshake, b"ServerMAC", b"")
        km3 = _derive_secret(handshake, b"ClientMAC", b"")
        if not hmac.compare_digest(server_mac, _mac(km2, _hash(preamble))):
            raise Refused("wrong_credentials", "the server's MAC")
        return _mac(km3, _hash(preamble + server_mac))


def _derive_secret(secret: bytes, label: bytes, context: bytes) -> bytes:
    label = b"OPAQUE-" + label
    custom = i2osp(NH, 2) + i2osp(len(label), 1) + label + i2osp(len(context), 1) + context
    return _expand(secret, custom, NH)
