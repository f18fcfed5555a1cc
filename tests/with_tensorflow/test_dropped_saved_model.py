"""A dropped SavedModel becomes a version like a .tflite file; the trials run in the test process."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from agents.managed import Managed
from agents.saved_models import COLORS

from agent.host.digest import sha256_of_folder
from agent.image import decode

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_saved_model_in_a_version_folder_serves(folder: Path, saved_model: Path, red: bytes) -> None:
    shutil.copytree(saved_model, folder / "m" / "7")
    managed = Managed(folder, workers=2)
    await managed.start()
    assert managed.reason() == ""
    assert managed.version() == 7
    served = managed.manager.get("m")
    assert served.identity.sha256 == sha256_of_folder(saved_model)
    one, other = served.loaded.classifiers
    assert one.labels == tuple(COLORS)
    assert [classifier.scores(decode(red))[0].best(1)[0].label for classifier in (one, other)] == ["red", "red"]
    assert managed.loads == [("m", "admitted")]
    assert [path.name for path in managed.store.folder.iterdir()] == [f"{served.identity.sha256}.savedmodel"]


async def test_saved_model_waits_for_its_weights(folder: Path, saved_model: Path) -> None:
    version = folder / "m" / "1"
    weights = version / "variables" / "variables.data-00000-of-00001"
    shutil.copytree(saved_model, version)
    content = weights.read_bytes()
    managed = Managed(folder)
    for part in (None, b"", content[:-1]):
        weights.unlink(missing_ok=True)
        if part is not None:
            weights.write_bytes(part)
        await managed.start()
        assert managed.version() is None
        assert "The SavedModel is not complete: variables/variables.data-00000-of-00001" in managed.reason()
        assert not list(managed.store.folder.glob("*"))
    weights.write_bytes(content)
    await managed.reconcile()
    assert managed.version() == 1
