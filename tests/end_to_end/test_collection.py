"""Frames that are kept for training, from the camera to the ZIP file."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until

from agent.image import decode

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

_COLLECT = {"between": [0, 1], "per_day": 1_000_000}  # every frame


def test_frames_are_kept_masked_and_downloaded_and_what_a_disk_fault_prevents_is_reported(tmp_path: Path) -> None:
    mask = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]
    views = {"whole": {}, "none": {"collect": {"per_day": 0}}}
    camera = {"source": str(VIDEO), "loop": True, "masks": [mask], "views": views, "collect": _COLLECT}
    folder = tmp_path / "state/collection"
    with RunningAgent(tmp_path, cameras={"front": camera}) as agent:
        folder.write_text("in the way")
        agent.drop(DIGITS.read_bytes())
        wait_until(
            lambda: f"Cannot collect frames in {folder}" in str(agent.json("/readyz")["warnings"]),
            what="the fault is reported",
        )
        folder.unlink()
    with RunningAgent(tmp_path, cameras={"front": camera}) as agent:
        wait_until(lambda: agent.json("/api/collection")["count"] >= 2, what="two frames are kept")
        listed = agent.json("/api/collection")["frames"]
        assert {(frame["camera"], frame["view"], frame["source"]) for frame in listed} == {("front", "whole", "front")}
        with zipfile.ZipFile(io.BytesIO(agent.get("/api/collection.zip").content)) as file:
            assert file.testzip() is None
            newest = next(name for name in file.namelist() if name.endswith(f"{listed[0]['id']}.jpg"))
            result = json.loads(file.read(newest.replace(".jpg", ".json")))
            picture = decode(file.read(newest))
        assert newest.partition("/")[0] == result["best"]["label"]
        rows = picture.pixels.mean(axis=(1, 2))
        assert rows[: picture.height // 2 - 8].max() < 4, "the upper half is masked"
        assert rows[picture.height // 2 + 8 :].max() > 20
        assert agent.get(f"/api/collection/{listed[0]['id']}.jpg").content[:2] == b"\xff\xd8"
