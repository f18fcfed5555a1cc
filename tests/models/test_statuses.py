"""The errors for models that do not serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.managed import (
    Managed,
    times,
)
from agents.models_on_disk import (
    DIGITS,
    digits,
    write_whole,
)

from agent.errors import ModelNotFoundError
from agent.runtimes.interpreter import runtime

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_model_with_a_new_candidate_is_reported_as_loading(folder: Path) -> None:
    managed = Managed(folder, times=times(rest_s=30))
    for name in ("m", "n"):
        (folder / f"{name}.tflite").write_bytes(DIGITS)
    await managed.reconcile()
    assert [status.candidate for status in managed.manager.statuses] == ["m.tflite", "n.tflite"]
    for name in ("m", "n"):
        with pytest.raises(ModelNotFoundError, match=rf"^Model {name} is being loaded. Try again in a second.$"):
            managed.manager.get(name)
    with pytest.raises(ModelNotFoundError, match=r"^Model m is being loaded"):
        managed.manager.get(None)


@pytest.mark.anyio
async def test_first_model_by_name_is_the_default(folder: Path) -> None:
    managed = Managed(folder)
    with pytest.raises(ModelNotFoundError, match=r"No model is served. Drop a \.tflite file into"):
        managed.manager.get(None)
    for name in ("b", "a"):
        write_whole(folder / f"{name}.tflite", digits(name))
    await managed.reconcile()
    assert managed.manager.get(None).identity.name == "a"
    assert sorted(managed.manager.served) == ["a", "b"]
    with pytest.raises(ModelNotFoundError, match="Model a does not serve 9 now"):
        managed.manager.get(None, "9")
    with pytest.raises(ModelNotFoundError, match=r"Drop c\.tflite into .*Served: a, b"):
        managed.manager.get("c")


@pytest.mark.anyio
async def test_status_says_what_computes_the_serving_version(folder: Path) -> None:
    managed = Managed(folder)
    write_whole(folder / "m.tflite", DIGITS)
    await managed.reconcile()
    status = managed.status().to_json()
    assert (status["runtime"], status["accelerator"]) == (f"{runtime()}, cpu, 1 thread", "cpu")
    assert status["accelerator_reason"] is None
