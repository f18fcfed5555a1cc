"""History: the file in the state folder, in the format that older and newer agents share."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.model_file.settings import ModelSettings
from agent.models.history import History
from agent.models.versions import ModelHistory, Version
from agent.runtimes.score_kind import SeenScores

if TYPE_CHECKING:
    from pathlib import Path

VERSION_IN_FILE: dict[str, Any] = {
    "number": 3,
    "sha256": "ab" * 32,
    "sidecar": {
        "labels": ["a", "b"],
        "mean": None,
        "std": None,
        "color": None,
        "resize": None,
        "resample": None,
        "score": None,
        "output": None,
        "unknown_below": None,
        "temperature": None,
    },
    "file": "m.tflite",
    "fingerprint": [[1, 2, 3]],
    "admitted_ns": 4,
    "bytes_each": 5,
    "processor_ms": 6.5,
    "proven": True,
    "starts": 1,
    "withdrawn": None,
    "withdrawn_ns": 0,
    "key_id": None,
    "is_kept": True,
    "is_shared": False,
    "scores": {
        "kind": "percent",
        "lowest": 0.0,
        "highest": 99.0,
        "lowest_sum": 99.9,
        "highest_sum": 100.1,
        "output": 1,
    },
}
MODEL_IN_FILE: dict[str, Any] = {
    "versions": [VERSION_IN_FILE],
    "given": 3,
    "signed": 7,
    "stable": 3,
    "pinned": None,
}
VERSION = Version(
    number=3,
    sha256="ab" * 32,
    sidecar=ModelSettings(labels=("a", "b")),
    file="m.tflite",
    fingerprint=((1, 2, 3),),
    admitted_ns=4,
    bytes_each=5,
    cpu_ms=6.5,
    proven=True,
    starts=1,
    scores=SeenScores("percent", 0.0, 99.0, 99.9, 100.1, output=1),
)


@pytest.mark.anyio
async def test_history_writes_the_documented_keys(tmp_path: Path) -> None:
    history = History(tmp_path / "history.json")
    history["m"] = ModelHistory((VERSION,), given=3, signed=7, stable=3)
    await history.save()
    document = json.loads((tmp_path / "history.json").read_text())
    assert document["models"] == {"m": MODEL_IN_FILE}
    assert (document["loading"], document["format"]) == ({}, 1)


def test_history_reads_the_file_of_an_earlier_agent(tmp_path: Path) -> None:
    document = {"models": {"m": MODEL_IN_FILE}, "loading": {"m": 3}, "boot": "an earlier one", "format": 1}
    (tmp_path / "history.json").write_text(json.dumps(document))
    assert History(tmp_path / "history.json")["m"] == ModelHistory((VERSION,), given=3, signed=7, stable=3)


def test_history_reads_versions_of_an_agent_that_did_not_record_scores(tmp_path: Path) -> None:
    version = {key: value for key, value in VERSION_IN_FILE.items() if key != "scores"}
    document = {"models": {"m": {**MODEL_IN_FILE, "versions": [version]}}, "loading": {}, "boot": "", "format": 1}
    (tmp_path / "history.json").write_text(json.dumps(document))
    (read,) = History(tmp_path / "history.json")["m"].versions
    assert read == dataclasses.replace(VERSION, scores=None)
