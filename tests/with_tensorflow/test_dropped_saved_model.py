"""A dropped SavedModel becomes a version like a .tflite file; the trials run in the test process."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from agents.managed import InProcessTrial, Managed
from agents.saved_models import COLORS, write_saved_model

from agent.errors import ModelError
from agent.host.digest import sha256_of_folder
from agent.image import decode
from agent.model_file.settings import ModelSettings
from agent.models.policy import Rules
from agent.models.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
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


@pytest.mark.anyio
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


@pytest.mark.anyio
async def test_golden_samples_decide(folder: Path, saved_model: Path, red: bytes) -> None:
    shutil.copytree(saved_model, folder / "m" / "1")
    golden = folder / "m/1/assets.extra/golden"
    for number in range(3):
        (golden / "red").mkdir(parents=True, exist_ok=True)
        (golden / "red" / f"{number}.png").write_bytes(red)
    managed = Managed(folder)
    await managed.start()
    assert (managed.reason(), managed.version()) == ("", 1)
    shutil.copytree(folder / "m" / "1", folder / "m" / "2")
    (folder / "m/2/assets.extra/golden/red").rename(folder / "m/2/assets.extra/golden/blue")
    await managed.reconcile()
    assert managed.version() == 1
    assert "3 of 3 golden samples got a different label" in managed.reason()


@pytest.mark.anyio
async def test_unsigned_saved_models_are_warned_about_once_per_model(
    folder: Path, saved_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = Managed(folder)
    for name, number in (("m", 1), ("m", 2), ("n", 1)):
        write_saved_model(folder / name / str(number), sharpness=number / 100)
        await managed.reconcile()
    warned = [record.getMessage() for record in caplog.records if "read and write files" in record.getMessage()]
    assert [words.split(" is an unsigned SavedModel")[0] for words in warned] == ["Model m", "Model n"]


@pytest.mark.anyio
async def test_memory_of_a_shared_function_counts_once(folder: Path, saved_model: Path) -> None:
    shutil.copytree(saved_model, folder / "m" / "1")
    managed = Managed(folder, workers=64, trial=InProcessTrial(bytes_each=1 << 20), memory=lambda: 10 << 20)
    await managed.start()
    assert managed.reason() == ""
    (version,) = managed.history["m"].versions
    assert version.is_shared
    assert managed.loader.bytes_of(version) == 1 << 20


@pytest.mark.anyio
async def test_damaged_copy_is_stored_again_from_the_folder(folder: Path, saved_model: Path) -> None:
    shutil.copytree(saved_model, folder / "m" / "1")
    first = Managed(folder)
    await first.start()
    (copy,) = first.store.folder.iterdir()
    (copy / "variables" / "variables.index").unlink()
    second = Managed(folder)
    await second.start()
    await second.reconcile()
    assert second.version() == 1
    assert second.store.read(second.identity().sha256) == copy


@pytest.mark.anyio
async def test_withdrawn_and_pinned_versions_of_folders_change_as_files_do(folder: Path, saved_model: Path) -> None:
    managed = Managed(folder)
    for number in (1, 2, 3):
        write_saved_model(folder / "m" / str(number), sharpness=number / 100)
        await managed.reconcile()
    assert managed.version() == 3
    await managed.manager.rollback("m")
    assert managed.version() == 2
    await managed.manager.pin("m", 1)
    assert managed.version() == 1
    later = Managed(folder)
    await later.start()
    assert (later.version(), later.states()) == (1, managed.states())


@pytest.mark.anyio
async def test_saved_model_can_be_a_canary(folder: Path) -> None:
    managed = Managed(folder, rules=Rules(canary_shares={"m": 0.5}))
    for number in (1, 2):
        write_saved_model(folder / "m" / str(number), sharpness=number / 100)
        await managed.reconcile()
    assert (managed.version(), managed.canary()) == (1, 2)


@pytest.mark.anyio
async def test_old_copies_are_swept(folder: Path) -> None:
    managed = Managed(folder, rules=Rules(keep_versions=1))
    for number in (1, 2, 3):
        write_saved_model(folder / "m" / str(number), sharpness=number / 100)
        await managed.reconcile()
        if number > 1:
            shutil.rmtree(folder / "m" / str(number - 1))
    await managed.reconcile()
    assert managed.identity().sha256 in {name.removesuffix(".savedmodel") for name in managed.copies()}
    assert len(managed.copies()) <= 2


def test_reason_names_the_model_and_not_the_copy_of_the_agent(saved_model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved_model, tmp_path / "copy.savedmodel")
    weights = copy / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(ModelError, match=r"^The SavedModel cannot be loaded: .* Copy the whole folder again"):
        Trial(threads=1).run(copy, ModelSettings())
