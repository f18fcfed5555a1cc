"""labels.txt next to a model, as Teachable Machine and Coral name it, and links as Kubernetes mounts them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from agents.managed import Managed, drop, following, next_start, prove, put, times
from agents.models_on_disk import BARE_DIGITS, DIGIT_LABELS, DIGITS, LETTERS, digits, write_whole

from agent.models.folder import ModelFolder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

WORDS = tuple(f"word {number}" for number in range(10))


def write_labels(folder: Path, labels: tuple[str, ...]) -> None:
    write_whole(folder / "labels.txt", "".join(f"{index} {label}\n" for index, label in enumerate(labels)).encode())


def labels(managed: Managed, name: str = "m") -> tuple[str, ...] | None:
    return managed.manager.get(name).loaded.settings.labels


async def test_labels_txt_is_kept_with_the_version_of_the_only_model(folder: Path) -> None:
    write_labels(folder, LETTERS)
    drop(folder, BARE_DIGITS)
    managed = Managed(folder)
    await managed.start()
    assert (labels(managed), managed.version()) == (LETTERS, 1)
    await prove(managed)
    write_labels(folder, WORDS)
    drop(folder, digits("2"), "other")
    await managed.reconcile()
    assert (labels(managed), managed.version()) == (LETTERS, 1)
    assert labels(managed, "other") == DIGIT_LABELS
    (folder / "labels.txt").unlink()
    again = await next_start(managed)
    await again.reconcile()
    assert (labels(again), again.version()) == (LETTERS, 1)


async def test_same_file_is_the_same_version_when_it_is_copied_again(folder: Path) -> None:
    write_labels(folder, LETTERS)
    drop(folder, BARE_DIGITS)
    managed = Managed(folder)
    await managed.start()
    drop(folder, BARE_DIGITS)
    await managed.reconcile()
    assert (labels(managed), managed.version(), len(managed.trial.runs)) == (LETTERS, 1, 2)


async def test_model_is_tried_again_when_labels_txt_arrives_after_it(folder: Path) -> None:
    drop(folder, BARE_DIGITS)
    managed = Managed(folder)
    await managed.start()
    assert "has no labels" in managed.reason()
    write_labels(folder, LETTERS[:9])
    await managed.reconcile()
    assert "9 labels for 10 outputs" in managed.reason()
    write_labels(folder, LETTERS)
    await managed.reconcile()
    assert (labels(managed), managed.reason()) == (LETTERS, "")


async def test_labels_txt_belongs_to_the_version_in_its_folder(folder: Path) -> None:
    drop(folder, DIGITS, "other")
    for version, names in ((1, LETTERS), (2, WORDS)):
        put(folder, version, BARE_DIGITS)
        write_labels(folder / "m" / str(version), names)
    managed = Managed(folder)
    await managed.start()
    assert (labels(managed), managed.version()) == (WORDS, 2)
    await managed.manager.pin("m", 1)
    assert (labels(managed), managed.version()) == (LETTERS, 1)
    put(folder, 2, BARE_DIGITS)
    await managed.manager.unpin("m")
    await managed.reconcile()
    assert (labels(managed), managed.version(), managed.reason()) == (WORDS, 2, "")


async def test_labels_txt_is_named_but_not_used_when_the_folder_has_several_models(folder: Path) -> None:
    write_labels(folder, LETTERS)
    drop(folder, BARE_DIGITS)
    drop(folder, DIGITS, "other")
    managed = Managed(folder)
    await managed.start()
    await managed.reconcile()
    assert managed.version() is None
    assert "labels.txt is not used, because this folder has several models" in managed.reason()
    assert "rename it to m.txt" in managed.reason()
    (folder / "labels.txt").rename(folder / "m.txt")
    await managed.reconcile()
    assert labels(managed) == LETTERS


async def test_labels_txt_is_named_but_not_used_when_it_is_above_the_folder_of_the_version(folder: Path) -> None:
    put(folder, 1, BARE_DIGITS)
    write_labels(folder / "m", LETTERS)
    managed = Managed(folder)
    await managed.start()
    await managed.reconcile()
    assert managed.version() is None
    assert "labels.txt in the folder above is not used." in managed.reason()
    (folder / "m" / "labels.txt").rename(folder / "m" / "1" / "labels.txt")
    await managed.reconcile()
    assert labels(managed) == LETTERS


@pytest.mark.parametrize("content", [b"\xff\xfe", b"0 a\n0 b\n", b"".join(b"%d x\n" % n for n in range(10))])
async def test_labels_in_the_model_override_labels_txt(folder: Path, content: bytes) -> None:
    write_whole(folder / "labels.txt", content)
    drop(folder, DIGITS)
    managed = Managed(folder)
    await managed.start()
    assert labels(managed) == DIGIT_LABELS


async def test_bad_labels_txt_is_the_reason_when_the_model_has_no_labels(folder: Path) -> None:
    (folder / "labels.txt").write_bytes(b"0 a\n0 b\n")
    drop(folder, BARE_DIGITS)
    managed = Managed(folder)
    await managed.start()
    assert "has no labels for its 10 outputs" in managed.reason()
    assert "labels.txt, line 2: line 1 already has the index 0" in managed.reason()


async def test_config_map_is_served_and_followed(folder: Path) -> None:
    """As the kubelet mounts and updates it: visible names are links through ..data into a new folder each time."""

    def update(number: int, content: bytes, names: tuple[str, ...]) -> None:
        inner = folder / f"..2024_{number}"
        inner.mkdir()
        (inner / "m.tflite").write_bytes(content)
        (inner / "m.txt").write_text("\n".join(names))
        (folder / "..data_tmp").symlink_to(inner.name)
        (folder / "..data_tmp").rename(folder / "..data")
        if number > 1:
            shutil.rmtree(folder / f"..2024_{number - 1}")

    update(1, BARE_DIGITS, LETTERS)
    for name in ("m.tflite", "m.txt"):
        (folder / name).symlink_to(f"..data/{name}")
    managed = Managed(folder, times=times(rest_s=0, rescan_s=60))
    await managed.start()
    assert labels(managed) == LETTERS
    await prove(managed)
    async with following(managed):
        await managed.manager.has_looked.wait()
        update(2, BARE_DIGITS, WORDS)  # only the watch can notice it within the test's time
        await managed.until(lambda: managed.version() == 2)
        assert labels(managed) == WORDS
        update(3, BARE_DIGITS, WORDS)
        await managed.reconcile()
        assert managed.version() == 2


async def test_overlooked_files_are_troubles_of_the_manager(folder: Path) -> None:
    (folder / "converted_tflite.zip").write_bytes(b"PK\3\4")
    managed = Managed(folder, models=ModelFolder(folder))
    await managed.start()
    assert [trouble.partition(":")[0] for trouble in managed.manager.troubles] == ["converted_tflite.zip is ignored"]
