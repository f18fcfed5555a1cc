"""WatchBed: folders for a watch whose conversions are made by a stand-in, which takes no time."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from converter.commands.convert import convert
from converter.commands.watch import OWN_OPTIONS
from converter.signing import read_secret_key
from converter.watching.options import section_of
from converter.watching.pipeline import Pipeline
from converter.watching.recipe import load_recipe
from converter.watching.watcher import Times, Watcher

if TYPE_CHECKING:
    from converter.signing import SecretKey

STAND_IN = Path(__file__).parent / "converter/watching/stand_in.py"


BARE_GRAPH = b"\x12\x00"  # a SavedModel with one graph, in which nothing is


class WatchBed:
    """`key` signs; `options` are those of the model birds."""

    def __init__(self, folder: Path, *, key: SecretKey | None = None) -> None:
        self.folder = folder
        self.source, self.output, self.reports = (folder / name for name in ("source", "output", "reports"))
        for each in (self.source, self.output):
            each.mkdir(parents=True, exist_ok=True)
        self.key = key
        self.options: dict[str, Any] = {"mean": 0, "std": 255}
        self.recipe: dict[str, Any] = {"source": "source", "output": "output", "reports": "reports"}

    def export(self, number: int, *, name: str = "birds", **behavior: Any) -> Path:
        """`behavior` is what the stand-in answers; `{"crash": true}` ends it by a signal."""
        version = self.source / name / str(number)
        version.mkdir(parents=True, exist_ok=True)
        (version / "behavior").write_text(json.dumps(behavior))
        (version / "saved_model.pb").write_bytes(BARE_GRAPH)
        return version

    @classmethod
    def of(cls, folder: Path) -> WatchBed:
        """The bed of another process: with its recipe, and with its key in the file `key`."""
        bed = cls(folder, key=read_secret_key(folder / "key", password=bytes))
        bed.recipe = yaml.safe_load((folder / "watch.yaml").read_text())
        bed.options = bed.recipe.pop("models")["birds"]
        return bed

    def watcher(self, **times: float) -> Watcher:
        """A new one, as after a start of the service. Without `times`, it takes versions at once and retries late."""
        (self.folder / "watch.yaml").write_text(yaml.safe_dump(self.recipe | {"models": {"birds": self.options}}))
        recipe = load_recipe(self.folder / "watch.yaml", section_of(convert, without=OWN_OPTIONS))
        pipeline = Pipeline(recipe, key=self.key, program=self.program)
        return Watcher(
            recipe.source, list(recipe.models), pipeline, times=Times(**{"rest_s": 0, "first_retry_s": 60} | times)
        )

    @property
    def program(self) -> tuple[str, ...]:
        return sys.executable, "-I", "-S", str(STAND_IN), str(self.folder / "calls")

    def run_once(self) -> list[str]:
        return asyncio.run(self.watcher().run_once())

    @property
    def converted(self) -> list[str]:
        """What was converted so far, in that order."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    @property
    def calls(self) -> list[str]:
        """Such as `birds 1`."""
        return [" ".join(path.split("/")[-2:]) for path in self.converted]

    def model(self, number: int) -> Path:
        return self.output / "birds" / str(number) / "model.tflite"

    @property
    def delivered(self) -> list[str]:
        return sorted(str(path.relative_to(self.output)) for path in self.output.rglob("*") if path.is_file())
