"""Minisign: verifies minisign signatures (jedisct1.github.io/minisign), which give a model file's signer and version.

A .pub file has two lines: a comment; the base64 of "Ed", 8 bytes key id, 32 bytes Ed25519 key. A .minisig file has
four lines: a comment; the base64 of "ED" (signs the file's BLAKE2b-512) or "Ed" (signs the file itself, option -l),
the key id, 64 bytes signature; the trusted comment; the base64 of a signature of that signature and that comment.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ModelError
from agent.host.plain_file import open_plain_file

HASHED, LEGACY = b"ED", b"Ed"
KEY_TYPE = b"Ed"
KEY_ID_BYTES, POINT_BYTES, SIGNATURE_BYTES = 8, 32, 64
COMMENT, TRUSTED_COMMENT = "untrusted comment: ", "trusted comment: "

_MAX_BYTES = 8 << 10  # of a .minisig or a .pub file
_MAX_DIGITS = 18  # of a version number, so that it fits into 64 bits
_BLOCK_BYTES = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signed:
    """The key that signed a file, and the comment; `version` is None if the trusted comment has no `version=`."""

    key_id: str
    trusted_comment: str
    version: int | None


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`id` is 8 bytes, `point` 32."""

    id: bytes
    point: bytes

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's Ed25519 signature of `message`."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (heavy, and not needed for unsigned models)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        try:
            Ed25519PublicKey.from_public_bytes(self.point).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class TrustedKeys:
    """The *.pub files of a folder, read at each call, so that keys can be added and removed while the agent runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def verify(self, content: Path | bytes, signature: bytes, *, name: str) -> Signed:
        """Returns who signed `content`; errors call it `name`. `signature` is the content of its .minisig.

        Raises ModelError if none of these keys signed it, or if the file, the comment or the signature was altered;
        OSError if `content` cannot be read. Blocks while it reads the file.
        """
        parsed = _parse_signature(signature, name)
        signers = self._keys_of(parsed, name)
        if parsed.algorithm == HASHED:
            message = hash_of(content)
        else:
            message = content if isinstance(content, bytes) else content.read_bytes()
        signer = next((key for key in signers if key.verifies(parsed.signature, message)), None)
        if signer is None:
            raise ModelError(
                f"{name} does not match its signature with the key {key_name(parsed.key_id)}: it was altered or "
                f"damaged, or {name}.minisig belongs to another version of it. Copy both again, or sign the file again."
            )
        if not signer.verifies(parsed.comment_signature, parsed.signature + parsed.trusted_comment):
            raise ModelError(
                f"The trusted comment in {name}.minisig does not match its signature: it was altered or damaged. "
                "Copy the .minisig again, or sign the file again."
            )
        return _signed(parsed, name)

    def fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a key is added, changed or removed."""
        return tuple(stamp for path in sorted(self._folder.glob("*.pub")) if (stamp := _stamp(path)) is not None)

    def names(self) -> set[str]:
        """The ids of the keys that are currently trusted, in the form of Signed.key_id."""
        return {key_name(key.id) for path in self._folder.glob("*.pub") if (key := _read_key(path)) is not None}

    def _keys_of(self, signature: _Signature, name: str) -> list[PublicKey]:
        """The keys with the key id in the signature: several keys can have the same id, by chance or by intent."""
        keys = [key for path in sorted(self._folder.glob("*.pub")) if (key := _read_key(path)) is not None]
        if not keys:
            raise ModelError(
                f"{name} is signed, but {self._folder} contains no public key to verify it. Put the .pub file of a "
                "signer that you trust there."
            )
        signers = [key for key in keys if key.id == signature.key_id]
        if not signers:
            raise ModelError(
                f"{name} is signed with the key {key_name(signature.key_id)}, which is not among those in "
                f"{self._folder}. If you trust its owner, put the .pub file there; otherwise sign the file with a "
                "trusted key."
            )
        return signers


def key_name(key_id: bytes) -> str:
    """As minisign prints it; versions before 0.12 omit leading zeros."""
    return f"{int.from_bytes(key_id, 'little'):016X}"


def parse_public_key(content: bytes) -> PublicKey:
    """Parses a .pub file. Raises ValueError for anything else; its message is a clause."""
    raw = key_bytes(content, len(KEY_TYPE) + KEY_ID_BYTES + POINT_BYTES)
    return PublicKey(raw[2:10], raw[10:])


def key_bytes(content: bytes, length: int) -> bytes:
    """The bytes of the key in a public or secret key file. Raises ValueError; its message is a clause."""
    lines = _lines(content)
    if len(lines) != 2 or not lines[0].startswith(COMMENT.encode()):
        raise ValueError(f"it must have two lines, `{COMMENT}...` and the key")
    raw = _decoded(lines[1], length)
    if not raw.startswith(KEY_TYPE):
        raise ValueError("its key is not of the type Ed")
    return raw


def hash_of(content: Path | bytes) -> bytes:
    """BLAKE2b-512 of a file, which may be large, or of bytes; a signature of type ED signs this hash."""
    if isinstance(content, bytes):
        return hashlib.blake2b(content).digest()
    digest = hashlib.blake2b()
    with content.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.digest()


def stated_version(trusted_comment: str) -> int | None:
    """The number in the token `version=<integer>`, or None. Raises ValueError for several or another format.

    Tokens are separated by tabs and spaces. The field `file:<name>` is skipped: a file name may look like a token.
    """
    fields = [field for field in trusted_comment.split("\t") if not field.startswith("file:")]
    tokens = [token for field in fields for token in field.split() if token.startswith("version=")]
    if not tokens:
        return None
    found = re.fullmatch(f"version=([0-9]{{1,{_MAX_DIGITS}}})", tokens[0])
    if found is None or len(tokens) > 1:
        raise ValueError(f"{' '.join(tokens)[:60]} is not a single `version=` with a whole number")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class _Signature:
    algorithm: bytes
    key_id: bytes
    signature: bytes
    trusted_comment: bytes
    comment_signature: bytes


def _parse_signature(content: bytes, name: str) -> _Signature:
    try:
        return _signature(content)
    except ValueError as error:
        raise ModelError(
            f"{name}.minisig is not a minisign signature: {error}. Copy it again, or sign again: edge-convert sign."
        ) from None


def _signature(content: bytes) -> _Signature:
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES >> 10} kB")
    lines = _lines(content)
    if len(lines) != 4:
        raise ValueError(f"it has {len(lines)} lines instead of 4")
    if not lines[0].startswith(COMMENT.encode()) or not lines[2].startswith(TRUSTED_COMMENT.encode()):
        raise ValueError(f"its lines 1 and 3 do not begin with `{COMMENT}` and `{TRUSTED_COMMENT}`")
    raw = _decoded(lines[1], len(HASHED) + KEY_ID_BYTES + SIGNATURE_BYTES)
    if raw[:2] not in (HASHED, LEGACY):
        raise ValueError("the type of its signature is neither ED nor Ed")
    comment = lines[2].removeprefix(TRUSTED_COMMENT.encode())
    return _Signature(raw[:2], raw[2:10], raw[10:], comment, _decoded(lines[3], SIGNATURE_BYTES))


def _signed(signature: _Signature, name: str) -> Signed:
    """Call it only after the comment was verified."""
    try:
        comment = signature.trusted_comment.decode()
        return Signed(key_name(signature.key_id), comment, stated_version(comment))
    except ValueError as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ModelError(
            f"The trusted comment in {name}.minisig cannot be used: {why}. Sign the file again: edge-convert sign "
            "--version N."
        ) from None


def _stamp(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return path.name, status.st_size, status.st_mtime_ns


def _read_key(path: Path) -> PublicKey | None:
    try:
        with open_plain_file(Path(os.path.realpath(path))) as file:  # a mounted ConfigMap has links
            return parse_public_key(file.read(_MAX_BYTES))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        log.warning("%s is not a minisign public key and is ignored: %s.", path, why)
        return None


def _lines(content: bytes) -> list[bytes]:
    return [line.rstrip(b"\r") for line in content.rstrip(b"\r\n").split(b"\n")]


def _decoded(line: bytes, length: int) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise ValueError("a line is not valid base64") from None
    if len(raw) != length:
        raise ValueError(f"a line has {len(raw)} bytes instead of {length}")
    return raw
