"""Disk faults of the collected frames: those that are there stay, none is half written, and adding works again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from collection.material import FRONT, add
from faults.disk_faults import DISK_FAULTS, disk_at

from agent.collection.folder import CollectionFolder

if TYPE_CHECKING:
    from pathlib import Path

# The tests run as root, whom no missing permission stops.
_KINDS = sorted(DISK_FAULTS.keys() - {"a folder without write permission"})


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("reserve_bytes", [-(1 << 20), 1 << 20], ids=["without a reserve", "with a reserve"])
def test_a_disk_fault_of_the_collection_leaves_whole_frames(tmp_path: Path, kind: str, reserve_bytes: int) -> None:
    with disk_at(tmp_path / "state") as disk:
        folder = CollectionFolder(disk / "collection", reserve_bytes=reserve_bytes)
        add(folder, FRONT, 1)
        fault = DISK_FAULTS[kind](disk)
        fault.begin()
        with pytest.raises(OSError, match=rf"{fault.message}|Less than 1 MB are free"):
            add(folder, FRONT, 2)
        assert [frame.document()["id"] for frame in folder.frames()] == [folder.frames()[0].id]
        assert [frame.captured_s for frame in folder.frames()] == [1]
        fault.end()
        add(folder, FRONT, 3)
        assert [frame.captured_s for frame in folder.frames()] == [3, 1]
        assert len(list((disk / "collection/front~").iterdir())) == 4
