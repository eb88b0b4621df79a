"""The primitives of e2ee.md, section 2, and the checks of imported keys."""

import hashlib
import hmac
import os

import nacl.bindings
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from .canonical import Refused

_DER = serialization.Encoding.DER
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


def hkdf(salt: bytes | str, ikm: bytes, info: bytes, length: int = 32) -> bytes:
    salt = salt.encode() if isinstance(salt, str) else salt
    return HKDF(hashes.SHA256(), length, salt, info).derive(ikm)


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)


def gcm_seal(key: bytes, iv: bytes, text: bytes, aad: bytes) -> bytes:
    return AESGCM(key).encrypt(iv, text, aad)


def gcm_open(key: bytes, iv: bytes, sealed: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(iv, sealed, aad)
    except (InvalidTag, ValueError):
        raise Refused("does_not_open", "GCM") from None


class RsaPublic:
    def __init__(self, spki: bytes):
        try:
            key = serialization.load_der_public_key(spki)
        except ValueError as error:
            raise Refused("bad_key", str(error)) from None
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size != 3072 or key.public_numbers().e != 65537:
            raise Refused("bad_key", "not RSA with 3072 bits and 65537")
        if key.public_bytes(_DER, serialization.PublicFormat.SubjectPublicKeyInfo) != spki:
            raise Refused("bad_key", "not the one DER of the key")
        self.spki, self._key = spki, key

    def verify(self, signature: bytes, data: bytes) -> None:
        try:
            self._key.verify(signature, data, _PSS, hashes.SHA256())
        except InvalidSignature:
            raise Refused("bad_signature", "PSS") from None

    def encrypt(self, text: bytes, label: str) -> bytes:
        return self._key.encrypt(text, _oaep(label))


class RsaPrivate:
    def __init__(self, pkcs8: bytes):
        self._key = serialization.load_der_private_key(pkcs8, None)
        self.pkcs8 = pkcs8
        public = self._key.public_key()
        self.public = RsaPublic(public.public_bytes(_DER, serialization.PublicFormat.SubjectPublicKeyInfo))

    @classmethod
    def generate(cls) -> "RsaPrivate":
        key = rsa.generate_private_key(65537, 3072)
        return cls(key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, _PSS, hashes.SHA256())

    def decrypt(self, sealed: bytes, label: str) -> bytes:
        try:
            return self._key.decrypt(sealed, _oaep(label))
        except ValueError:
            raise Refused("does_not_open", "OAEP") from None


def _oaep(label: str) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label.encode())


def check_ed25519(public: bytes) -> bytes:
    """An Ed25519 key that may be used. libsodium refuses points outside of the prime-order group as well,
    which are more than the text asks for; no signer has such a key."""
    if len(public) != 32 or not nacl.bindings.crypto_core_ed25519_is_valid_point(public):
        raise Refused("bad_key", "Ed25519")
    return public


def ed25519_verify(public: bytes, signature: bytes, data: bytes) -> None:
    """libsodium's strict verification: canonical S, no point of small order."""
    try:
        VerifyKey(check_ed25519(public)).verify(data, signature)
    except (CryptoError, ValueError) as error:
        raise Refused("bad_signature", f"Ed25519: {error}") from None


class Ed25519:
    def __init__(self, seed: bytes | None = None):
        self.seed = seed or os.urandom(32)
        self._key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


_XWING_LABEL = rb"\./" + rb"/^" + b"\\"


def _xwing_combine(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + _XWING_LABEL).digest()


def _x25519(private: x25519.X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refused("does_not_open", "X25519 gives zero") from None


def check_xwing(public: bytes) -> bytes:
    if len(public) != 1216 or not any(public[1184:]):
        raise Refused("bad_key", "X-Wing")
    triples = (int.from_bytes(public[at : at + 3], "little") for at in range(0, 1152, 3))
    if any(pair & 0xFFF >= 3329 or pair >> 12 >= 3329 for pair in triples):
        raise Refused("bad_key", "an ML-KEM coefficient is not reduced")
    return public


def xwing_encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """The secret of 32 bytes and its ciphertext of 1120."""
    check_xwing(public)
    ss_m, ct_m = mlkem.MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    ephemeral = x25519.X25519PrivateKey.generate()
    ct_x = ephemeral.public_key().public_bytes_raw()
    return _xwing_combine(ss_m, _x25519(ephemeral, public[1184:]), ct_x, public[1184:]), ct_m + ct_x


class XWing:
    def __init__(self, seed: bytes | None = None):
        self.seed = seed or os.urandom(32)
        expanded = hashlib.shake_256(self.seed).digest(96)
        self._ml_kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self._x25519 = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
        ml_kem = self._ml_kem.public_key().public_bytes_raw()
        self.public = ml_kem + self._x25519.public_key().public_bytes_raw()

    def decapsulate(self, sealed: bytes) -> bytes:
        if len(sealed) != 1120:
            raise Refused("does_not_open", "X-Wing ciphertext")
        ct_m, ct_x = sealed[:1088], sealed[1088:]
        ss_m = self._ml_kem.decapsulate(ct_m)
        return _xwing_combine(ss_m, _x25519(self._x25519, ct_x), ct_x, self.public[1184:])
