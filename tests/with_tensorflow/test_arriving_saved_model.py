"""A SavedModel whose files arrive one after the other, each in two halves, is served only once it is complete."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from agents.managed import Managed
from agents.saved_models import write_saved_model

from agent.host.digest import files_in, sha256_of_folder

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.first]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that needs each of its files."""
    path = write_saved_model(tmp_path_factory.mktemp("source") / "1")
    (path / "fingerprint.pb").unlink()
    return path


@pytest.mark.parametrize("order", range(20))
async def test_no_part_of_it_is_served_in_any_order_of_its_files(folder: Path, source: Path, order: int) -> None:
    names = sorted(files_in(source))
    random.Random(order).shuffle(names)
    managed = Managed(folder)  # it does not wait until files rest
    served: list[str | None] = []
    for name in names:
        content = (source / name).read_bytes()
        path = folder / "m" / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as file:
            for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                assert managed.version() is None, f"it served before {name} was complete; order {names}"
                file.write(part)
                await managed.reconcile()
                served.append(managed.identity().sha256 if managed.version() else None)
    assert served == [None] * (len(served) - 1) + [sha256_of_folder(source)]
    assert managed.reason() == ""
    assert [path.name for path in (folder / "m").iterdir()] == ["1"]  # and no note
    assert managed.copies() == {f"{sha256_of_folder(source)}.savedmodel"}
