"""Keys and signatures of `edge-convert keygen` and `sign`, compared with minisign's own."""

from __future__ import annotations

import base64
import json
import os
import pty
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.security.minisign import TrustedKeys, parse_public_key
from converter.errors import SigningError, UsageError
from converter.signing import (
    Limits,
    SecretKey,
    _cost,
    public_key_file,
    read_password,
    read_secret_key,
    secret_key_file,
    trusted_comment,
)

if TYPE_CHECKING:
    from edge_convert import EdgeConvert

ROOT = Path(__file__).parents[2]
KEY = SecretKey(bytes(range(8)), bytes(range(32)))
QUICK = Limits(operations=1 << 15, memory_bytes=1 << 20)

# Made by `minisign -G` 0.11 with the password `wren`.
MINISIGNS_KEY = """untrusted comment: minisign encrypted secret key
RWRTY0Iy5XAD6nBJRljgb70EEjW8CtQgXgv6bOMTnrJXMlJ4xDgAAAACAAAAAAAAAEAAAAAADJMpddUffc60YWVkgR2ByAsWrI/58gOB/s\
EpCPgILN+UpBrHyd2YbftwYnyCNlzPwoYX9+uXgi32GAFKRpQCz7XaUVx9bT91xcizQVGOnwvc6r3bNv6J1Arkx2P5OGJwbHcaqQikwoI=
"""
MINISIGNS_PUBLIC_KEY = """untrusted comment: minisign public key A0E11BDBC76D95C
RWRc2Xa8vREOCuL5VRVHMI0NV9VYy0pHeSjrCXFPlLRye9n/E4O8z412
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "birds.tflite"
    path.write_bytes(b"a finished model" * 100)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key without a password."""
    path = tmp_path / "birds.key"
    path.write_bytes(secret_key_file(KEY, None))
    (tmp_path / "birds.pub").write_bytes(public_key_file(KEY.public))
    return path


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A key with the password `wren` and limits that are cheap to compute."""
    path = tmp_path / "locked.key"
    path.write_bytes(secret_key_file(KEY, b"wren", limits=QUICK))
    (tmp_path / "locked.pub").write_bytes(public_key_file(KEY.public))
    return path


def minisign(*arguments: str | Path, typed: str = "") -> str:
    """`typed` contains the password, once or twice."""
    done = subprocess.run(["minisign", *arguments], input=typed, capture_output=True, text=True, check=True)
    return done.stdout


def on_a_terminal(*arguments: str | Path, typed: tuple[tuple[str, str], ...]) -> tuple[int, str]:
    """`typed` are (prompt, input) pairs; returns the exit code and the text that the terminal showed."""
    ours, its = pty.openpty()
    command = ("setsid", "--ctty", sys.executable, "-m", "converter.cli", *arguments)
    with subprocess.Popen(command, cwd=ROOT, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        shown = ""
        for prompt, words in typed:
            before = len(shown)
            while f"{prompt}: " not in shown[before:]:
                chunk = _read(ours)
                assert chunk, shown
                shown += chunk
            os.write(ours, words.encode())
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    return process.returncode, shown


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 4096).decode()
    except OSError:  # Linux raises it once the other end is closed
        return ""


def verified(model: Path, folder: Path) -> int | None:
    """The version in the signature, verified by the agent with the keys in `folder`."""
    signature = model.with_name(f"{model.name}.minisig").read_bytes()
    return TrustedKeys(folder).verify(model, signature, name=model.name).version


def test_keygen_writes_a_private_secret_key_and_a_public_key(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("keygen", tmp_path / "birds.key", "--no-password", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert (document["secret_key"], document["public_key"]) == (
        str(tmp_path / "birds.key"),
        str(tmp_path / "birds.pub"),
    )
    assert stat.S_IMODE((tmp_path / "birds.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "birds.pub").stat().st_mode) & 0o444
    assert f"minisign public key {document['key_id']}\n" in (tmp_path / "birds.pub").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds.key", "birds.pub"]


def test_key_with_another_extension_keeps_it(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("keygen", tmp_path / "birds.2026", "--no-password")
    assert outcome.out.startswith(f"Secret key: {tmp_path / 'birds.2026'}. It signs models;")
    assert f"Public key: {tmp_path / 'birds.2026.pub'}, " in outcome.out


def test_new_keys_differ() -> None:
    one, other = SecretKey.new(), SecretKey.new()
    assert one.id != other.id
    assert one.seed != other.seed


def test_repr_of_a_key_hides_the_seed() -> None:
    assert str(KEY.seed) not in repr(KEY)


@pytest.mark.minisign
def test_minisign_can_sign_with_a_key_of_keygen(tmp_path: Path, model: Path, edge_convert: EdgeConvert) -> None:
    edge_convert("keygen", tmp_path / "birds.key", "--no-password")
    minisign("-S", "-s", tmp_path / "birds.key", "-m", model, "-t", "version=5")
    assert verified(model, tmp_path) == 5


@pytest.mark.minisign
def test_minisign_can_decrypt_our_key(tmp_path: Path, model: Path, locked: Path) -> None:
    minisign("-S", "-s", locked, "-m", model, typed="wren\n")
    assert verified(model, tmp_path) is None


@pytest.mark.minisign
def test_sign_accepts_a_key_of_minisign(tmp_path: Path, model: Path, edge_convert: EdgeConvert) -> None:
    minisign("-G", "-W", "-p", tmp_path / "theirs.pub", "-s", tmp_path / "theirs.key")
    assert edge_convert("sign", model, "--key", tmp_path / "theirs.key").code == 0
    output = minisign("-V", "-p", tmp_path / "theirs.pub", "-m", model)
    assert "file:birds.tflite\thashed\n" in output


@pytest.mark.long
def test_sign_asks_for_the_password_of_a_minisign_key_on_a_terminal(tmp_path: Path, model: Path) -> None:
    """The only test that needs 1 GB of memory, for minisign's own limits."""
    (tmp_path / "theirs.key").write_text(MINISIGNS_KEY)
    (tmp_path / "theirs.pub").write_text(MINISIGNS_PUBLIC_KEY)
    typed = (("Password", "wren\n"),)
    code, shown = on_a_terminal("sign", model, "--key", tmp_path / "theirs.key", "--version", "3", typed=typed)
    assert code == 0, shown
    assert "wren" not in shown
    assert verified(model, tmp_path) == 3


def test_keygen_asks_twice_on_a_terminal(tmp_path: Path) -> None:
    end_of_file = "\x04"
    typed = (("Password", "wren\n"), ("Repeat for confirmation", "robin\n"), ("Password", end_of_file))
    code, shown = on_a_terminal("keygen", tmp_path / "birds.key", typed=typed)
    assert code == 1
    assert "Error: The two entered values do not match." in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.minisign
def test_minisign_accepts_a_signature_of_sign(
    tmp_path: Path, model: Path, key: Path, edge_convert: EdgeConvert
) -> None:
    outcome = edge_convert("sign", model, "--key", key, "--version", "7", "--comment", "für den Garten", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    document = json.loads(outcome.out)
    assert document["signature"] == str(tmp_path / "birds.tflite.minisig")
    output = minisign("-V", "-p", tmp_path / "birds.pub", "-m", model)
    assert f"Trusted comment: {document['trusted_comment']}" in output
    assert document["trusted_comment"].endswith("\tfile:birds.tflite\thashed\tversion=7\tfür den Garten")
    assert verified(model, tmp_path) == 7
    again = edge_convert("sign", model, "--key", key, "--force")
    assert again.out.startswith(f"Signature: {document['signature']}, key id ")
    assert verified(model, tmp_path) is None


def test_sign_reads_the_password_from_a_file(
    tmp_path: Path, model: Path, locked: Path, edge_convert: EdgeConvert
) -> None:
    (tmp_path / "password").write_text("wren\n")
    outcome = edge_convert("sign", model, "--key", locked, "--password-file", tmp_path / "password")
    assert (outcome.code, outcome.err) == (0, "")
    assert verified(model, tmp_path) is None


def test_keygen_encrypts_a_key_with_the_password_of_a_file(
    tmp_path: Path, model: Path, edge_convert: EdgeConvert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_key_file, "__kwdefaults__", {"limits": QUICK})
    (tmp_path / "password").write_text("wren")
    assert edge_convert("keygen", tmp_path / "birds.key", "--password-file", tmp_path / "password").code == 0
    secret = read_secret_key(tmp_path / "birds.key", password=lambda: b"wren")
    assert secret.public == parse_public_key((tmp_path / "birds.pub").read_bytes())
    with pytest.raises(SigningError, match="the password is wrong"):
        read_secret_key(tmp_path / "birds.key", password=lambda: b"robin")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("keygen", "new.key"),
            "Cannot ask for the password without a terminal. Use --password-file FILE, or --no-password.",
        ),
        (
            ("keygen", "new.key", "--no-password", "--password-file", "password"),
            "--no-password and --password-file cannot be used together.",
        ),
        (("keygen", "birds.key", "--no-password"), "birds.key already exists. Use --force to replace it."),
        (("keygen", "locked", "--no-password"), "locked.pub already exists. Use --force to replace it."),
        (("keygen", "absent/new.key", "--no-password"), "The folder absent does not exist. Create it first."),
        (
            ("keygen", "new.key", "--password-file", "empty"),
            "empty is empty. Put a password in it, or use --no-password.",
        ),
        (("keygen", "new.key", "--password-file", "absent"), "absent cannot be read: No such file or directory."),
        (
            ("sign", "absent.tflite", "--key", "birds.key"),
            "absent.tflite is neither a file nor a SavedModel. Give the finished .tflite file or the folder.",
        ),
        (
            ("sign", ".", "--key", "birds.key"),
            ". is neither a file nor a SavedModel. Give the finished .tflite file or the folder.",
        ),
        (
            ("sign", "signed.tflite", "--key", "birds.key"),
            "signed.tflite.minisig already exists. Use --force to replace it.",
        ),
        (
            ("sign", "birds.tflite", "--key", "locked.key"),
            "Cannot ask for the password without a terminal. Use --password-file FILE.",
        ),
        (
            ("sign", "birds.tflite", "--key", "birds.key", "--comment", "a\tb"),
            "--comment must be one line of printable text of at most 1000 bytes.",
        ),
        (
            ("sign", "birds.tflite", "--key", "birds.key", "--comment", "x" * 1001),
            "--comment must be one line of printable text of at most 1000 bytes.",
        ),
        (
            ("sign", "birds.tflite", "--key", "birds.key", "--comment", "of version=2"),
            "--comment must not contain version=. Use --version instead.",
        ),
    ],
)
@pytest.mark.usefixtures("model", "key", "locked")
def test_wrong_options_exit_with_2_and_one_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    edge_convert: EdgeConvert,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "signed.tflite", "signed.tflite.minisig"):
        Path(name).touch()
    before = sorted(tmp_path.iterdir())
    outcome = edge_convert(*arguments)
    assert (outcome.code, outcome.err, outcome.out) == (2, f"edge-convert: {sentence}\n", "")
    assert sorted(tmp_path.iterdir()) == before


def test_typer_errors_exit_with_2(model: Path, key: Path, edge_convert: EdgeConvert) -> None:
    assert edge_convert("sign", model).code == 2
    assert edge_convert("sign", model, "--key", key, "--version", "-1").code == 2
    assert edge_convert("sign", model, "--key", key, "--version", str(10**18)).code == 2


@pytest.mark.parametrize("command", ["keygen", "sign"])
def test_signing_commands_have_a_help_text(
    command: str, edge_convert: EdgeConvert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outcome = edge_convert(command, "--help")
    assert outcome.code == 0
    assert "in minisign's format" in outcome.out


def test_wrong_password_exits_with_1(tmp_path: Path, model: Path, locked: Path, edge_convert: EdgeConvert) -> None:
    (tmp_path / "password").write_text("robin")
    outcome = edge_convert("sign", model, "--key", locked, "--password-file", tmp_path / "password")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"edge-convert: {locked} cannot be used as a secret key: the password is wrong, or the file is damaged. Give a "
        "key made by edge-convert keygen or minisign -G.\n"
    )


def test_missing_key_exits_with_1(tmp_path: Path, model: Path, edge_convert: EdgeConvert) -> None:
    outcome = edge_convert("sign", model, "--key", tmp_path / "absent")
    sentence = f"{tmp_path / 'absent'} cannot be read: No such file or directory. Make a key: edge-convert keygen."
    assert (outcome.code, outcome.err) == (1, f"edge-convert: {sentence}\n")


def no_password() -> bytes:
    raise AssertionError("the password should not be needed")


def test_public_key_is_refused_as_a_secret_key(tmp_path: Path, key: Path) -> None:
    with pytest.raises(SigningError, match="a line has 42 bytes instead of 158"):
        read_secret_key(tmp_path / "birds.pub", password=no_password)


def changed(file: bytes, at: int, other: bytes) -> bytes:
    """A key file in which the bytes from `at` are replaced by `other`."""
    comment, line = file.splitlines()
    raw = bytearray(base64.b64decode(line))
    raw[at : at + len(other)] = other
    return comment + b"\n" + base64.b64encode(raw) + b"\n"


def with_limits(operations: int, memory_bytes: int) -> bytes:
    return changed(secret_key_file(KEY, b"wren", limits=QUICK), 38, struct.pack("<QQ", operations, memory_bytes))


@pytest.mark.parametrize(
    ("at", "other", "why"),
    [
        (0, b"e", "its key is not of the type Ed"),
        (2, b"Ar", "its encryption b'Ar' is not supported"),
        (70, b"\xff", "it is damaged"),
        (100, b"\xff", "it is damaged"),
    ],
)
def test_damaged_key_is_refused(at: int, other: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(changed(secret_key_file(KEY, None), at, other))
    with pytest.raises(SigningError) as refusal:
        read_secret_key(tmp_path / "k", password=no_password)
    assert f": {why}. Give a key" in str(refusal.value)


def test_key_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(with_limits(1 << 28, 1 << 32))
    with pytest.raises(SigningError, match=r"its password needs 4096 MB of memory, more than is supported\. Give a"):
        read_secret_key(tmp_path / "k", password=lambda: b"wren")


@pytest.mark.parametrize(
    ("limits", "cost"),
    [
        (Limits(), (1 << 20, 1)),  # minisign's
        (Limits(1 << 24, 1 << 30), (1 << 19, 1)),  # fewer operations than the memory allows
        (Limits(1 << 25, 1 << 24), (1 << 14, 64)),
        (Limits(0, 1 << 24), (1 << 10, 1)),
        (Limits(0, 0), (2, 512)),
    ],
)
def test_limits_give_the_same_scrypt_cost_as_libsodium(limits: Limits, cost: tuple[int, int]) -> None:
    assert _cost(limits) == cost


@pytest.mark.minisign
@pytest.mark.parametrize("limits", [QUICK, Limits(1 << 16, 1 << 24), Limits(1 << 17, 1 << 16)])
def test_minisign_derives_the_same_key_for_different_limits(limits: Limits, tmp_path: Path, model: Path) -> None:
    (tmp_path / "k").write_bytes(secret_key_file(KEY, b"wren", limits=limits))
    (tmp_path / "k.pub").write_bytes(public_key_file(KEY.public))
    minisign("-S", "-s", tmp_path / "k", "-m", model, typed="wren\n")
    assert verified(model, tmp_path) is None
    assert read_secret_key(tmp_path / "k", password=lambda: b"wren") == KEY


@pytest.mark.parametrize("content", [b"a\nb", b"a\0b", b"x" * 1001])
def test_password_that_minisign_cannot_accept_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(content)
    with pytest.raises(UsageError, match="must contain the password on one line of at most 1000 bytes"):
        read_password(tmp_path / "password")


@pytest.mark.parametrize("name", ["a\tversion=9.tflite", "a\nb.tflite", "caf\udce9.tflite"])
def test_unprintable_file_name_is_refused_in_the_trusted_comment(name: str) -> None:
    with pytest.raises(UsageError, match="A signature cannot contain the file name"):
        trusted_comment(name, timestamp_s=0, version=None, words=None)


def test_empty_comment_is_omitted() -> None:
    comment = trusted_comment("a.tflite", timestamp_s=5, version=0, words="")
    assert comment == "timestamp:5\tfile:a.tflite\thashed\tversion=0"
