"""Recovery words, the sealed identity, and the recovery key: e2ee.md, section 4."""

import os
import unicodedata

from mnemonic import Mnemonic

from .canonical import Refused, T
from .primitives import gcm_open, gcm_seal, hkdf

LANGUAGES = ("english", "korean")


def word_list(language: str) -> list[str]:
    """The 2,048 words as BIP-39 lists them, NFKD."""
    return [unicodedata.normalize("NFKD", word) for word in Mnemonic(language).wordlist]


def words(secret: bytes, language: str) -> list[str]:
    return unicodedata.normalize("NFKD", Mnemonic(language).to_mnemonic(secret)).split()


def entropy(text: str) -> bytes:
    """The 16 bytes behind 12 words of either language."""
    given = unicodedata.normalize("NFKD", text).lower().split()
    if len(given) != 12:
        raise Refused("wrong_number_of_words", str(len(given)))
    for language in LANGUAGES:
        mnemonic, known = Mnemonic(language), word_list(language)
        if all(word in known for word in given):
            try:
                # The package compares words as its own list has them.
                return bytes(mnemonic.to_entropy([mnemonic.wordlist[known.index(word)] for word in given]))
            except ValueError:
                raise Refused("wrong_checksum") from None
    raise Refused("unknown_word")


def sealing_key(secret: bytes, account: str) -> bytes:
    return hkdf("mildam/recovery/v1", secret, T("mildam/recovery-key/v1", account))


def sealing_aad(account: str, fingerprint: bytes) -> bytes:
    return T("mildam/sealed-identity/v1", account, fingerprint)


def seal_identity(secret: bytes, account: str, fingerprint: bytes, pkcs8: bytes) -> bytes:
    iv = os.urandom(12)
    aad = sealing_aad(account, fingerprint)
    return b"\1" + iv + gcm_seal(sealing_key(secret, account), iv, pkcs8, aad)


def open_identity(secret: bytes, account: str, fingerprint: bytes, sealed: bytes) -> bytes:
    if sealed[:1] != b"\1":
        raise Refused("needs_newer_version", "sealed identity")
    aad = sealing_aad(account, fingerprint)
    return gcm_open(sealing_key(secret, account), sealed[1:13], sealed[13:], aad)


def recovery_seed(secret: bytes, account: str) -> bytes:
    label = "mildam/recovery-auth/v1"
    return hkdf(label, secret, T(label, account))
