"""Signatures made by minisign and by `edge-convert sign`, each verified by the other program."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from agent.errors import ModelError
from agent.security.minisign import (
    HASHED,
    PublicKey,
    Signed,
    TrustedKeys,
    hash_of,
    key_name,
    parse_public_key,
    stated_version,
)
from converter.signing import SecretKey, public_key_file, signature_file, trusted_comment

if TYPE_CHECKING:
    from pathlib import Path

KEY = SecretKey(b"\x01\x02\x03\x04\x05\x06\x07\x08", bytes(range(32)))
KEY_NAME = "0807060504030201"
CONTENT = b"what was signed" * 100


@dataclass(frozen=True)
class Desk:
    """A signed file, its signature, and a folder of trusted keys with the signer's key."""

    file: Path
    trusted: Path
    signature: bytes

    def verify(self, signature: bytes | None = None) -> Signed:
        given = self.signature if signature is None else signature
        return TrustedKeys(self.trusted).verify(self.file, given, name="birds.tflite")

    def refuses(self, words: str, signature: bytes | None = None) -> None:
        with pytest.raises(ModelError, match=words):
            self.verify(signature)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Signed by edge-convert's code as version 7."""
    file, trusted = tmp_path / "copy", tmp_path / "trusted"
    file.write_bytes(CONTENT)
    trusted.mkdir()
    (trusted / "ours.pub").write_bytes(public_key_file(KEY.public))
    return Desk(file, trusted, signed(file, version=7))


def signed(file: Path, *, key: SecretKey = KEY, version: int | None = None) -> bytes:
    comment = trusted_comment("birds.tflite", timestamp_s=1_700_000_000, version=version, words=None)
    return signature_file(file, key, comment=comment)


def signed_saying(comment: bytes, file: Path, *, key: SecretKey = KEY) -> bytes:
    """A valid signature with any trusted comment."""
    signature = key.sign(hash_of(file))
    return with_lines(HASHED + key.id + signature, comment, key.sign(signature + comment))


def with_lines(signature: bytes, comment: bytes, comment_signature: bytes) -> bytes:
    first, second = base64.b64encode(signature), base64.b64encode(comment_signature)
    return b"\n".join([b"untrusted comment: x", first, b"trusted comment: " + comment, second, b""])


def lines(signature: bytes) -> tuple[bytes, bytes, bytes]:
    """The arguments of with_lines()."""
    _, first, comment, second, _ = signature.split(b"\n")
    return base64.b64decode(first), comment.removeprefix(b"trusted comment: "), base64.b64decode(second)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def minisign(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["minisign", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


@pytest.fixture(params=["hashed", "legacy"])
def minisigns(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    """Signed by the real minisign, with both of its algorithms."""
    file, trusted, key = tmp_path / "birds.tflite", tmp_path / "trusted", tmp_path / "secret.key"
    file.write_bytes(CONTENT)
    trusted.mkdir()
    minisign("-G", "-W", "-p", trusted / "theirs.pub", "-s", key)
    minisign("-S", "-s", key, "-m", file, *(["-l"] if request.param == "legacy" else []))
    return Desk(file, trusted, (tmp_path / "birds.tflite.minisig").read_bytes())


@pytest.mark.minisign
def test_signature_made_by_minisign_is_verified(minisigns: Desk) -> None:
    signed = minisigns.verify()
    assert re.fullmatch(r"timestamp:[0-9]+\tfile:birds\.tflite(\thashed)?", signed.trusted_comment)
    named = re.search("minisign public key ([0-9A-F]+)\n", (minisigns.trusted / "theirs.pub").read_text())
    assert named is not None
    assert signed.key_id == named[1].rjust(16, "0")  # minisign 0.11 omits leading zeros, 0.12 does not
    assert signed.version is None


@pytest.mark.minisign
def test_version_in_a_trusted_comment_made_by_minisign_is_read(tmp_path: Path) -> None:
    file = tmp_path / "birds.tflite"
    file.write_bytes(CONTENT)
    minisign("-G", "-W", "-p", tmp_path / "k.pub", "-s", tmp_path / "k.key")
    minisign("-S", "-s", tmp_path / "k.key", "-m", file, "-t", "spring model version=12")
    signed = Desk(file, tmp_path, (tmp_path / "birds.tflite.minisig").read_bytes()).verify()
    assert (signed.trusted_comment, signed.version) == ("spring model version=12", 12)


@pytest.mark.minisign
def test_signature_made_by_edge_convert_is_accepted_by_minisign(desk: Desk) -> None:
    signature = desk.file.with_name("copy.minisig")
    signature.write_bytes(desk.signature)
    output = minisign("-V", "-p", desk.trusted / "ours.pub", "-m", desk.file)
    assert "timestamp:1700000000\tfile:birds.tflite\thashed\tversion=7" in output


@pytest.mark.minisign
def test_file_signed_by_minisign_is_refused_when_a_bit_is_flipped(minisigns: Desk) -> None:
    minisigns.file.write_bytes(flipped(CONTENT, 700))
    minisigns.refuses("birds.tflite does not match its signature")


@pytest.mark.minisign
def test_signature_made_by_minisign_is_refused_when_any_byte_is_changed(minisigns: Desk) -> None:
    signature, comment, comment_signature = lines(minisigns.signature)
    for at in range(len(signature)):
        minisigns.refuses("birds.tflite", with_lines(flipped(signature, at), comment, comment_signature))
    for at in range(len(comment)):
        minisigns.refuses("The trusted comment", with_lines(signature, flipped(comment, at), comment_signature))
    for at in range(len(comment_signature)):
        minisigns.refuses("The trusted comment", with_lines(signature, comment, flipped(comment_signature, at)))
    assert minisigns.verify(with_lines(signature, comment, comment_signature)).version is None


@pytest.mark.minisign
def test_signature_is_refused_when_its_algorithm_is_changed(minisigns: Desk) -> None:
    signature, comment, comment_signature = lines(minisigns.signature)
    other = {b"ED": b"Ed", b"Ed": b"ED"}[signature[:2]]
    minisigns.refuses("does not match its signature", with_lines(other + signature[2:], comment, comment_signature))


@pytest.mark.minisign
def test_key_made_by_minisign_is_refused_when_any_byte_is_changed(minisigns: Desk) -> None:
    file = minisigns.trusted / "theirs.pub"
    key = parse_public_key(file.read_bytes())
    for at in range(40):
        raw = flipped(key.id + key.point, at)
        file.write_bytes(public_key_file(PublicKey(raw[:8], raw[8:])))
        minisigns.refuses("birds.tflite (is signed|does not match)")
    file.write_bytes(public_key_file(key))
    minisigns.verify()


def test_verify_returns_key_comment_and_version(desk: Desk) -> None:
    comment = "timestamp:1700000000\tfile:birds.tflite\thashed\tversion=7"
    assert desk.verify() == Signed(KEY_NAME, comment, 7)
    assert key_name(KEY.id) == KEY_NAME


def test_altered_file_is_refused_with_the_remedy(desk: Desk) -> None:
    desk.file.write_bytes(CONTENT + b"!")
    with pytest.raises(ModelError) as refusal:
        desk.verify()
    assert str(refusal.value) == (
        f"birds.tflite does not match its signature with the key {KEY_NAME}: it was altered or damaged, or "
        "birds.tflite.minisig belongs to another version of it. Copy both again, or sign the file again."
    )


def test_altered_trusted_comment_is_refused_with_the_remedy(desk: Desk) -> None:
    with pytest.raises(ModelError) as refusal:
        desk.verify(desk.signature.replace(b"version=7", b"version=8"))
    assert str(refusal.value) == (
        "The trusted comment in birds.tflite.minisig does not match its signature: it was altered or damaged. Copy "
        "the .minisig again, or sign the file again."
    )


def test_unknown_key_is_refused_with_the_remedy(desk: Desk) -> None:
    with pytest.raises(ModelError) as refusal:
        desk.verify(signed(desk.file, key=SecretKey(b"another_", KEY.seed)))
    assert str(refusal.value) == (
        f"birds.tflite is signed with the key 5F726568746F6E61, which is not among those in {desk.trusted}. If you "
        "trust its owner, put the .pub file there; otherwise sign the file with a trusted key."
    )


@pytest.mark.parametrize("folder_is_there", [True, False])
def test_file_is_refused_when_there_is_no_trusted_key(desk: Desk, *, folder_is_there: bool) -> None:
    (desk.trusted / "ours.pub").rename(desk.file.parent / "ours.pub")
    if not folder_is_there:
        desk.trusted.rmdir()
    with pytest.raises(ModelError) as refusal:
        desk.verify()
    assert str(refusal.value) == (
        f"birds.tflite is signed, but {desk.trusted} contains no public key to verify it. Put the .pub file of a "
        "signer that you trust there."
    )


def test_keys_can_be_added_and_removed_while_the_agent_runs(desk: Desk) -> None:
    keys, key = TrustedKeys(desk.trusted), desk.trusted / "ours.pub"
    aside = key.rename(desk.file.parent / "ours.pub")
    with pytest.raises(ModelError, match="contains no public key"):
        keys.verify(desk.file, desk.signature, name="birds.tflite")
    shutil.copy(aside, key)
    assert keys.verify(desk.file, desk.signature, name="birds.tflite").key_id == KEY_NAME
    key.unlink()
    with pytest.raises(ModelError, match="contains no public key"):
        keys.verify(desk.file, desk.signature, name="birds.tflite")


def test_key_behind_a_symbolic_link_is_trusted(desk: Desk) -> None:
    """Kubernetes mounts the files of a ConfigMap as links."""
    (desk.trusted / "ours.pub").rename(desk.file.parent / "data")
    (desk.trusted / "ours.pub").symlink_to(desk.file.parent / "data")
    assert desk.verify().key_id == KEY_NAME


def test_all_keys_with_the_same_id_are_tried(desk: Desk) -> None:
    for name, number in (("a.pub", 1), ("z.pub", 2)):
        other = SecretKey(KEY.id, bytes([number]) * 32)
        (desk.trusted / name).write_bytes(public_key_file(other.public))
        assert desk.verify(signed(desk.file, key=other)).key_id == KEY_NAME
    assert desk.verify().version == 7
    desk.refuses("does not match its signature", signed(desk.file, key=SecretKey(KEY.id, bytes(32))))


def test_invalid_key_file_is_logged_and_ignored(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    good = (desk.trusted / "ours.pub").read_text()
    comment, key = good.splitlines()
    broken = {
        "bare.pub": (key, "it must have two lines, `untrusted comment: ...` and the key"),
        "cut.pub": (f"{comment}\n{key[:-4]}", "a line has 39 bytes instead of 42"),
        "empty.pub": ("", "it must have two lines, `untrusted comment: ...` and the key"),
        "long.pub": (good + "x" * 20000, "it must have two lines, `untrusted comment: ...` and the key"),
        "text.pub": (f"{comment}\nwas heißt das?", "a line is not valid base64"),
        "type.pub": (f"{comment}\nQUJ{key[3:]}", "its key is not of the type Ed"),
    }
    for name, (content, _) in broken.items():
        (desk.trusted / name).write_text(content)
    os.mkfifo(desk.trusted / "waits.pub")
    (desk.trusted / "gone.pub").symlink_to(desk.trusted / "nowhere")
    assert desk.verify().key_id == KEY_NAME
    reasons = {name: why for name, (_, why) in broken.items()}
    reasons |= {"gone.pub": "No such file or directory", "waits.pub": "it is not a regular file"}
    assert [record.getMessage() for record in caplog.records] == [
        f"{desk.trusted / name} is not a minisign public key and is ignored: {why}."
        for name, why in sorted(reasons.items())
    ]


GOOD = with_lines(HASHED + bytes(72), b"timestamp:1", bytes(64))


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (b"", "it has 1 lines instead of 4"),
        (b"\0" * 100, "it has 1 lines instead of 4"),
        (GOOD[: GOOD.index(b"trusted comment: t")], "it has 2 lines instead of 4"),
        (GOOD + b"more\n", "it has 5 lines instead of 4"),
        (GOOD + b"\n" * 9000, "it is larger than 8 kB"),
        (GOOD.replace(b"untrusted", b"distrusted"), "its lines 1 and 3 do not begin with `untrusted comment: ` and"),
        (GOOD.replace(b"\ntrusted", b"\nuntrusted"), "its lines 1 and 3 do not begin with `untrusted comment: ` and"),
        (with_lines(HASHED + bytes(71), b"", bytes(64)), "a line has 73 bytes instead of 74"),
        (with_lines(HASHED + bytes(72), b"", bytes(65)), "a line has 65 bytes instead of 64"),
        (with_lines(b"EE" + bytes(72), b"", bytes(64)), "the type of its signature is neither ED nor Ed"),
        (GOOD.replace(b"AAAA", b"A!AA"), "a line is not valid base64"),
        (GOOD.replace(b"AAAA", b"A\xff\0A"), "a line is not valid base64"),
    ],
)
def test_invalid_signature_file_is_refused_with_the_remedy(signature: bytes, why: str, desk: Desk) -> None:
    desk.refuses(
        f"^birds.tflite.minisig is not a minisign signature: {re.escape(why)}.*"
        "Copy it again, or sign again: edge-convert sign",
        signature,
    )


def test_signature_is_accepted_with_windows_line_endings(desk: Desk) -> None:
    assert desk.verify(desk.signature.replace(b"\n", b"\r\n")).version == 7


@pytest.mark.parametrize(
    ("comment", "version"),
    [
        ("", None),
        ("timestamp:1\tfile:a.tflite\thashed", None),
        ("version=0", 0),
        ("version=007", 7),
        ("timestamp:1\tfile:a.tflite\thashed\tversion=3\twords", 3),
        ("the version=3 of them", 3),
        ("file:version=3", None),
        ("file:the version=3 of them.tflite\tversion=4", 4),
        ("inversion=3", None),
        ("version=" + "9" * 18, 10**18 - 1),
    ],
)
def test_version_is_read_from_a_separate_token(comment: str, version: int | None) -> None:
    assert stated_version(comment) == version


@pytest.mark.parametrize(
    "comment",
    ["version=abc", "version=", "version=-1", "version=1.5", "version=٣", "version=1 version=2", "version=" + "9" * 19],
)
def test_malformed_version_is_refused_even_if_it_is_signed(comment: str, desk: Desk) -> None:
    desk.refuses(
        "The trusted comment in birds.tflite.minisig cannot be used: .* is not a single `version=` with a whole number",
        signed_saying(comment.encode(), desk.file),
    )


def test_comment_that_is_not_text_is_refused_even_if_it_is_signed(desk: Desk) -> None:
    desk.refuses("cannot be used: it is not UTF-8", signed_saying(b"caf\xe9", desk.file))


def test_large_file_is_not_read_into_memory(desk: Desk) -> None:
    desk.file.write_bytes(bytes(32 << 20))
    signature = signed(desk.file)
    desk.verify(signature)
    tracemalloc.start()
    try:
        desk.verify(signature)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_verify_raises_an_os_error_when_the_file_is_gone(desk: Desk) -> None:
    desk.file.unlink()
    with pytest.raises(FileNotFoundError):
        desk.verify()
