"""Signatures and checksums of a SavedModel, beside the folder of its version."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from agents.managed import Managed
from edge_convert import runner
from needs import need

from agent.security.minisign import TrustedKeys

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert

# As docs/how-to/saved-model.md has it.
MANIFEST = r"(cd birds/7 && find . -type f -not -path '*/.*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum)"


@pytest.fixture
def edge_convert(capfd: pytest.CaptureFixture[str]) -> EdgeConvert:
    return runner(capfd.readouterr)


@pytest.fixture
def signed(tmp_path: Path, saved_model: Path, edge_convert: EdgeConvert) -> Path:
    """birds/7 with birds/7.minisig beside it, and keys/us.pub."""
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copytree(saved_model, tmp_path / "birds" / "7")
    assert edge_convert("keygen", keys / "us.key", "--no-password").code == 0
    signing = edge_convert("sign", tmp_path / "birds" / "7", "--key", keys / "us.key", "--version", "7")
    assert signing.code == 0
    assert f"Signature: {tmp_path}/birds/7.minisig" in signing.out
    return tmp_path


def sh(command: str, folder: Path) -> None:
    subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)


def drop(signed: Path, folder: Path) -> None:
    shutil.copytree(signed / "birds", folder / "birds", dirs_exist_ok=True)


def managed(folder: Path, signed: Path) -> Managed:
    return Managed(folder, signatures="required", keys=TrustedKeys(signed / "keys"))


@pytest.mark.minisign
def test_minisign_verifies_the_manifest_that_sha256sum_prints(signed: Path) -> None:
    need(shutil.which("minisign"), "minisign is not on PATH: apt install minisign")
    sh(f"{MANIFEST} >manifest", signed)
    command = ["minisign", "-Vm", "manifest", "-x", "birds/7.minisig", "-p", "keys/us.pub"]
    done = subprocess.run(command, cwd=signed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "version=7" in done.stdout


@pytest.mark.minisign
@pytest.mark.anyio
async def test_agent_accepts_a_signature_made_by_minisign(signed: Path, folder: Path) -> None:
    need(shutil.which("minisign"), "minisign is not on PATH: apt install minisign")
    (signed / "birds/7.minisig").unlink()
    sh(f"{MANIFEST} >manifest", signed)
    sh("minisign -S -s keys/us.key -W -t version=7 -x birds/7.minisig -m manifest", signed)
    drop(signed, folder)
    agent = managed(folder, signed)
    await agent.start()
    assert (agent.reason("birds"), agent.version("birds")) == ("", 7)


@pytest.mark.anyio
async def test_signed_saved_model_serves_when_signatures_are_required(signed: Path, folder: Path) -> None:
    drop(signed, folder)
    agent = managed(folder, signed)
    await agent.start()
    assert (agent.reason("birds"), agent.version("birds")) == ("", 7)
    (version,) = agent.history["birds"].versions
    assert version.key_id is not None
    later = managed(folder, signed)
    await later.start()
    assert later.version("birds") == 7


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("rm birds/7.minisig", "The file is not signed"),
        ("echo x >>birds/7/assets.extra/labels.txt", "does not match its signature"),
        ("touch birds/7/more", "does not match its signature"),
        ("rm birds/7/fingerprint.pb", "does not match its signature"),
        ("mv birds/7/fingerprint.pb birds/7/f", "does not match its signature"),
        ("echo other >birds/7.txt", "7.txt is not covered by the signature"),
        ("echo 'mean: 3' >birds/7.yaml", "7.yaml is not covered by the signature"),
    ],
)
async def test_changed_saved_model_is_rejected_when_signatures_are_required(
    signed: Path, folder: Path, change: str, words: str
) -> None:
    drop(signed, folder)
    sh(change, folder)
    agent = managed(folder, signed)
    await agent.start()
    assert agent.version("birds") is None
    assert words in agent.reason("birds")
    assert words in (folder / "birds" / "7.rejected.txt").read_text()


@pytest.mark.anyio
@pytest.mark.parametrize("command", [f"{MANIFEST} >birds/7.sha256", f"{MANIFEST} | sha256sum >birds/7.sha256"])
async def test_checksums_beside_the_folder_must_match(saved_model: Path, folder: Path, command: str) -> None:
    shutil.copytree(saved_model, folder / "birds" / "7")
    labels = folder / "birds/7/assets.extra/labels.txt"
    labels.write_text(labels.read_text() + "\n")
    sh(command, folder)
    labels.write_text(labels.read_text()[:-1])
    agent = Managed(folder)
    await agent.start()
    assert agent.version("birds") is None
    assert "The SavedModel does not match 7.sha256" in agent.reason("birds")
    assert not list(agent.store.folder.glob("*"))
    sh(command, folder)
    await agent.reconcile()
    assert (agent.reason("birds"), agent.version("birds")) == ("", 7)


def test_folder_that_is_not_a_complete_saved_model_is_not_signed(
    signed: Path, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    (signed / "birds/7/variables/variables.data-00000-of-00001").unlink()
    key = ("--key", signed / "keys/us.key", "--force")
    assert (
        "is not complete: variables/variables.data-00000-of-00001 is missing"
        in edge_convert("sign", signed / "birds/7", *key).err
    )
    assert "is neither a file nor a SavedModel" in edge_convert("sign", tmp_path, *key).err
