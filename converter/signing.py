"""Signing: secret keys in minisign's format, and signatures of finished files.

A key file has a comment line, and a line with the base64 of: "Ed"; "Sc" (scrypt), or two zero bytes without a password;
"B2"; a salt of 32 bytes; two limits; and 104 bytes: key id, seed, public key and their checksum, XORed with the output
of scrypt for the password.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.security.minisign import (
    COMMENT,
    HASHED,
    KEY_ID_BYTES,
    KEY_TYPE,
    TRUSTED_COMMENT,
    PublicKey,
    hash_of,
    key_bytes,
    key_name,
)
from agent.text import is_unicode
from converter.errors import SigningError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SCRYPT, _NO_PASSWORD, _BLAKE2B = b"Sc", b"\0\0", b"B2"
_HEAD = struct.Struct("<2s2s2s32sQQ")
_SECRET = struct.Struct("<8s32s32s32s")
_R = 8  # scrypt's block size, as in libsodium
_MAX_MEMORY_BYTES = (1 << 31) - 1  # the limit of hashlib.scrypt; minisign uses half of it
_MAX_PASSWORD_BYTES = 1000  # minisign's buffer has 1024
_MAX_COMMENT_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """How expensive guessing the password is (libsodium's limits); defaults as in minisign: 1 GB."""

    operations: int = 1 << 25
    memory_bytes: int = 1 << 30


_MINISIGN_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class SecretKey:
    """`id` has 8 bytes, `seed` has 32 secret bytes."""

    id: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def new(cls) -> SecretKey:
        return cls(secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(32))

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.id, self._private().public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self._private().sign(message)

    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  (heavy)

        return Ed25519PrivateKey.from_private_bytes(self.seed)


def public_key_file(key: PublicKey) -> bytes:
    return _lines(f"{COMMENT}minisign public key {key_name(key.id)}", _base64(KEY_TYPE + key.id + key.point))


def secret_key_file(key: SecretKey, password: bytes | None, *, limits: Limits = _MINISIGN_LIMITS) -> bytes:
    """With `password` None the key is not encrypted, as `minisign -G -W` writes it."""
    point = key.public.point
    if password is None:
        head = _HEAD.pack(KEY_TYPE, _NO_PASSWORD, _BLAKE2B, bytes(32), 0, 0)
        secret = _SECRET.pack(key.id, key.seed, point, bytes(32))
    else:
        salt = secrets.token_bytes(32)
        head = _HEAD.pack(KEY_TYPE, _SCRYPT, _BLAKE2B, salt, limits.operations, limits.memory_bytes)
        open_ = _SECRET.pack(key.id, key.seed, point, _checksum(key.id, key.seed, point))
        secret = _xored(open_, _stream(password, salt, limits))
    return _lines(f"{COMMENT}minisign encrypted secret key", _base64(head + secret))


def read_secret_key(path: Path, *, password: Callable[[], bytes]) -> SecretKey:
    """Calls `password` only if the key has one. Raises SigningError if it is wrong or the file is not a key."""
    try:
        raw = key_bytes(path.read_bytes(), _HEAD.size + _SECRET.size)
        return _opened(raw, password)
    except OSError as error:
        raise SigningError(f"{path} cannot be read: {error.strerror}. Make a key: edge-convert keygen.") from None
    except ValueError as error:
        raise SigningError(
            f"{path} cannot be used as a secret key: {error}. Give a key made by edge-convert keygen or minisign -G."
        ) from None


def read_password(path: Path) -> bytes:
    """The content of the file without line end. Raises UsageError if it could not be typed into minisign."""
    try:
        password = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if len(password) > _MAX_PASSWORD_BYTES or any(byte in password for byte in b"\0\r\n"):
        raise UsageError(f"{path} must contain the password on one line of at most {_MAX_PASSWORD_BYTES} bytes.")
    return password


def trusted_comment(name: str, *, timestamp_s: int, version: int | None, words: str | None) -> str:
    """The trusted comment as minisign writes it, plus version and `words`. Raises UsageError if it could be misread."""
    if not name.isprintable() or not is_unicode(name):
        raise UsageError(f"A signature cannot contain the file name {name!r}. Use only printable characters in it.")
    if words is not None and (not words.isprintable() or len(words.encode()) > _MAX_COMMENT_BYTES):
        raise UsageError(f"--comment must be one line of printable text of at most {_MAX_COMMENT_BYTES} bytes.")
    if words is not None and any(word.startswith("version=") for word in words.split()):
        raise UsageError("--comment must not contain version=. Use --version instead.")
    stated = [] if version is None else [f"version={version}"]
    return "\t".join([f"timestamp:{timestamp_s}", f"file:{name}", "hashed", *stated, *([words] if words else [])])


def signature_file(content: Path | bytes, key: SecretKey, *, comment: str) -> bytes:
    """The signature file for `content`; `comment` is the result of trusted_comment()."""
    signature = key.sign(hash_of(content))
    return _lines(
        f"{COMMENT}signature from edge-convert",
        _base64(HASHED + key.id + signature),
        f"{TRUSTED_COMMENT}{comment}",
        _base64(key.sign(signature + comment.encode())),
    )


def _opened(raw: bytes, password: Callable[[], bytes]) -> SecretKey:
    _, kdf, _, salt, operations, memory_bytes = _HEAD.unpack_from(raw)
    secret = raw[_HEAD.size :]
    if kdf not in (_SCRYPT, _NO_PASSWORD):
        raise ValueError(f"its encryption {kdf!r} is not supported")
    if kdf == _SCRYPT:
        secret = _xored(secret, _stream(password(), salt, Limits(operations, memory_bytes)))
    key_id, seed, point, checksum = _SECRET.unpack(secret)
    if kdf == _SCRYPT and checksum != _checksum(key_id, seed, point):
        raise ValueError("the password is wrong, or the file is damaged")
    key = SecretKey(key_id, seed)
    if key.public.point != point:
        raise ValueError("it is damaged")
    return key


def _checksum(key_id: bytes, seed: bytes, point: bytes) -> bytes:
    return hashlib.blake2b(KEY_TYPE + key_id + seed + point, digest_size=32).digest()


def _stream(password: bytes, salt: bytes, limits: Limits) -> bytes:
    n, p = _cost(limits)
    memory_bytes = 128 * _R * (n + p + 2)
    if memory_bytes > _MAX_MEMORY_BYTES:
        raise ValueError(f"its password needs {memory_bytes >> 20} MB of memory, more than is supported")
    try:
        return hashlib.scrypt(password, salt=salt, n=n, r=_R, p=p, maxmem=_MAX_MEMORY_BYTES, dklen=_SECRET.size)
    except MemoryError:
        raise ValueError(f"its password needs {memory_bytes >> 20} MB of memory, which is not available") from None


def _cost(limits: Limits) -> tuple[int, int]:
    """N and p of scrypt as libsodium's pickparams() chooses them for these limits."""
    operations = max(limits.operations, 1 << 15)
    if operations < limits.memory_bytes // 32:
        return _power_of_2_up_to(operations // (4 * _R)), 1
    n = _power_of_2_up_to(limits.memory_bytes // (128 * _R))
    return n, min(operations // 4 // n, (1 << 30) - 1) // _R


def _power_of_2_up_to(most: int) -> int:
    return 1 << max(1, most.bit_length() - 1)


def _xored(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
