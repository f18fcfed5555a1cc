"""Versions with signed files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    ONE,
    TWO,
    Managed,
    decided,
    drop,
    dropped,
    next_start,
    observe,
    put,
)
from agents.models_on_disk import BARE_DIGITS

from agent.errors import ModelError, NotFiniteError
from agent.security.minisign import Signed, TrustedKeys

if TYPE_CHECKING:
    from pathlib import Path


class Keys(TrustedKeys):
    """Trusts the signers in `trusted`; a signature is a signer and a version."""

    def __init__(self, *trusted: str) -> None:
        self.trusted = set(trusted)

    def fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        return tuple((name, 0, 0) for name in sorted(self.trusted))

    def names(self) -> set[str]:
        return self.trusted

    def verify(self, content: Path | bytes, signature: bytes, *, name: str) -> Signed:
        signer, version = signature.decode().split()
        if signer not in self.trusted:
            raise ModelError(f"{name} is signed by a stranger.")
        return Signed(signer, "", int(version))


def sign(folder: Path, version: int) -> None:
    (folder / "m.tflite.minisig").write_text(f"us {version}")


@pytest.mark.anyio
async def test_rejected_file_is_admitted_when_its_key_is_trusted_later(folder: Path) -> None:
    keys = Keys()
    managed = Managed(folder, signatures="required", keys=keys)
    sign(folder, 1)
    drop(folder, ONE)
    await managed.reconcile()
    assert "signed by a stranger" in managed.reason()
    keys.trusted.add("us")
    await managed.reconcile()
    assert (managed.version(), managed.reason()) == (1, "")


@pytest.mark.anyio
async def test_labels_txt_is_named_but_not_used_when_signatures_are_required(folder: Path) -> None:
    managed = Managed(folder, signatures="required", keys=Keys("us"))
    (folder / "labels.txt").write_text("\n".join("abcdefghij"))
    sign(folder, 1)
    drop(folder, BARE_DIGITS)
    await managed.reconcile()
    assert managed.version() is None
    assert "labels.txt is not used, because models.signatures is `required`" in managed.reason()


@pytest.mark.anyio
async def test_same_file_signed_with_a_higher_version_raises_the_lowest_version_allowed(folder: Path) -> None:
    keys = Keys("us")
    managed = Managed(folder, signatures="required", keys=keys)
    for version in (2, 5):
        sign(folder, version)
        drop(folder, ONE)
        await managed.reconcile()
    assert (managed.version(), managed.history["m"].signed) == (1, 5)
    sign(folder, 3)
    drop(folder, TWO)
    await managed.reconcile()
    assert (managed.version(), "says version 3, but version 5" in managed.reason()) == (1, True)


@pytest.mark.anyio
async def test_unsigned_version_serves_after_it_is_signed_when_signatures_become_required(folder: Path) -> None:
    managed = await dropped(folder, ONE)
    keys = Keys("us")
    again = await next_start(managed, signatures="required", keys=keys)
    assert again.version() is None
    await again.reconcile()
    assert "Version 1 is not signed" in again.reason()
    sign(folder, 1)
    await again.reconcile()
    assert (again.version(), again.reason()) == (1, "")


@pytest.mark.anyio
async def test_signed_version_with_a_lower_number_serves_when_the_higher_one_was_withdrawn(folder: Path) -> None:
    keys = Keys("us")
    for number, content in ((7, ONE), (8, TWO)):
        put(folder, number, content)
        (folder / "m" / str(number) / "model.tflite.minisig").write_text(f"us {number}")
    managed = Managed(folder, signatures="required", keys=keys)
    await managed.start()
    assert managed.version() == 8
    observe(managed, NotFiniteError("NaN."))
    await decided()
    await managed.reconcile()
    assert managed.version() == 7


@pytest.mark.anyio
async def test_version_does_not_serve_after_a_restart_when_its_key_is_no_longer_trusted(folder: Path) -> None:
    keys = Keys("us")
    managed = Managed(folder, signatures="required", keys=keys)
    sign(folder, 1)
    drop(folder, ONE)
    await managed.start()
    assert managed.version() == 1
    keys.trusted.clear()
    again = await next_start(managed, signatures="required", keys=keys)
    assert again.version() is None
    await again.reconcile()
    assert "which is not trusted" in again.reason()
