"""What serves while the disk of the drop folder is missing. A link that leads to another device acts as the mount."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.managed import ONE, TWO, Managed, drop, dropped, next_start, start_after_crash, times
from peers.subscriber import until

from agent.models import folder as folder_module, reconciler
from agent.models.folder import ModelFolder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from agent.models.folder import Drop

_SHARED_MEMORY = Path("/dev/shm")  # another device than the temporary folder


class Disk:
    """`folder` is on the disk while it is mounted, and otherwise an empty folder on the device of the system."""

    def __init__(self, folder: Path, content: Path) -> None:
        self.folder, self.content = folder, content
        self._mount_point = folder.with_name("mount point")
        self._mount_point.mkdir()
        self.mount()

    def mount(self, content: Path | None = None) -> None:
        self._lead_to(content or self.content)

    def unmount(self) -> None:
        self._lead_to(self._mount_point)

    def _lead_to(self, target: Path) -> None:
        self.folder.unlink(missing_ok=True)
        self.folder.symlink_to(target)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not _SHARED_MEMORY.is_dir() or _SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another device than the temporary folder")
    with tempfile.TemporaryDirectory(dir=_SHARED_MEMORY) as content:
        yield Disk(tmp_path / "models", Path(content))


@pytest.mark.anyio
async def test_model_keeps_serving_while_the_disk_of_the_folder_is_missing(disk: Disk) -> None:
    managed = await dropped(disk.folder, ONE, times=times(retire_after_s=0))
    disk.unmount()
    for _ in range(3):
        assert await managed.reconcile() <= 1
        assert (managed.version(), managed.copies()) == (1, {managed.identity().sha256})
    (trouble,) = managed.manager.troubles
    assert "has no models and is on another disk than before: its disk is probably not mounted." in trouble
    disk.mount()
    drop(disk.folder, TWO)
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles) == (2, [])


@pytest.mark.anyio
@pytest.mark.parametrize("start", [next_start, start_after_crash])
async def test_model_serves_after_a_restart_without_the_disk(
    disk: Disk, start: Callable[..., Awaitable[Managed]]
) -> None:
    managed = await dropped(disk.folder, ONE)
    disk.unmount()
    for _ in range(2):
        managed = await start(managed, times=times(retire_after_s=0))
        await managed.reconcile()
        await managed.reconcile()
        assert managed.version() == 1
        assert "Mount the disk" in managed.manager.troubles[0]
    disk.mount()
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles, managed.trial.runs) == (1, [], [])


@pytest.mark.anyio
async def test_model_serves_after_a_restart_without_the_folder(disk: Disk) -> None:
    managed = await dropped(disk.folder, ONE)
    disk.folder.unlink()
    managed = await next_start(managed, times=times(retire_after_s=0))
    await managed.reconcile()
    assert managed.version() == 1
    assert "cannot be listed: No such file or directory" in managed.manager.troubles[0]


@pytest.mark.anyio
async def test_model_is_retired_when_it_is_removed_from_a_mounted_disk(disk: Disk) -> None:
    managed = await dropped(disk.folder, ONE, times=times(retire_after_s=0))
    (disk.folder / "m.tflite").unlink()
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles) == (None, [])
    disk.unmount()
    await managed.reconcile()
    assert managed.manager.troubles == []


@pytest.mark.anyio
async def test_model_is_retired_when_it_was_removed_while_the_agent_was_stopped(disk: Disk) -> None:
    managed = await dropped(disk.folder, ONE)
    (disk.folder / "m.tflite").unlink()
    managed = await next_start(managed, times=times(retire_after_s=0))
    await managed.reconcile()
    assert managed.version() is None


@pytest.mark.anyio
async def test_model_is_retired_when_its_folder_is_replaced_on_the_same_device(folder: Path) -> None:
    managed = await dropped(folder, ONE, times=times(retire_after_s=0))
    shutil.rmtree(folder)
    os.mkdir(folder)  # noqa: PTH102
    await managed.reconcile()
    assert managed.version() is None


@pytest.mark.anyio
async def test_model_on_another_disk_replaces_those_of_the_missing_one(disk: Disk) -> None:
    managed = await dropped(disk.folder, ONE, times=times(retire_after_s=0))
    disk.unmount()
    await managed.reconcile()
    drop(disk.folder, TWO, "other")
    await managed.reconcile()
    await managed.reconcile()
    assert (sorted(managed.manager.served), managed.manager.troubles) == (["other"], [])
    (disk.folder / "other.tflite").unlink()
    await managed.reconcile()
    assert sorted(managed.manager.served) == []


@pytest.mark.anyio
async def test_new_installation_on_an_empty_folder_reports_nothing(disk: Disk) -> None:
    managed = Managed(disk.folder)
    await managed.start()
    disk.unmount()
    await managed.reconcile()
    assert managed.manager.troubles == []


@pytest.mark.anyio
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
async def test_model_keeps_serving_when_the_disk_fails_at_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    managed = await dropped(folder, ONE, times=times(retire_after_s=0))
    lstat, asked = Path.lstat, []

    def failing(path: Path) -> os.stat_result:
        if path.suffix == ".tflite":
            asked.append(path)
            if len(asked) > 1:  # the first time, the listing finds the file
                raise OSError(number, os.strerror(number), str(path))
        return lstat(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", failing)
        await managed.reconcile()
        assert managed.version() == 1
        assert f"cannot be listed: {os.strerror(number)}" in managed.manager.troubles[0]
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles) == (1, [])


@pytest.mark.anyio
async def test_model_keeps_serving_when_a_disk_that_was_pulled_out_lists_as_empty(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stick with FAT stays mounted for a while, and the kernel skips the blocks that it cannot read."""
    status = os.stat(folder)  # noqa: PTH116
    if os.major(status.st_dev) == 0:
        pytest.skip("the temporary folder is not on a disk")
    managed = await dropped(folder, ONE, times=times(retire_after_s=0))
    disks = tmp_path / "disks"
    os.mkdir(disks)  # noqa: PTH102
    monkeypatch.setattr(folder_module, "_DISKS", disks)
    await managed.reconcile()
    assert managed.manager.troubles == []
    os.remove(folder / "m.tflite")  # noqa: PTH107
    await managed.reconcile()
    assert managed.version() == 1
    assert "cannot be listed: its disk was pulled out. Serving continues" in managed.manager.troubles[0]
    os.mkdir(disks / f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}")  # noqa: PTH102
    await managed.reconcile()
    assert (managed.version(), managed.manager.troubles) == (None, [])


@pytest.mark.anyio
async def test_folder_that_does_not_respond_is_reported_while_the_model_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(ModelFolder):
        answer = threading.Event()

        def list(self) -> dict[str, list[Drop]]:
            self.answer.wait(10)
            return super().list()

    models = Hanging(folder)
    models.answer.set()
    managed = await dropped(folder, ONE, models=models)
    monkeypatch.setattr(reconciler, "_SLOW_S", 0.01)
    models.answer.clear()
    looking = asyncio.create_task(managed.reconcile())
    await until(lambda: managed.manager.troubles)
    assert "does not respond. Serving continues" in managed.manager.troubles[0]
    assert managed.label() == "3"
    models.answer.set()
    await looking
    assert managed.manager.troubles == []
