"""Pipeline: the steps of one version, from the source folder to the devices; each can be repeated after a kill."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shlex
import shutil
from typing import TYPE_CHECKING, Literal, TypeAlias

from converter.watching.child import run_child
from converter.watching.conversion import Conversion, Outcome
from converter.watching.delivery import OutputFolder
from converter.watching.recipe import digest_of
from converter.watching.records import Record, Records
from converter.watching.versions import stamps_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.signing import SecretKey
    from converter.watching.recipe import Recipe
    from converter.watching.versions import Version

log = logging.getLogger(__name__)

Step: TypeAlias = Literal["convert", "place", "deliver", "refused", "delivered"]

_COMMAND_S = 600.0
_DONE = Outcome("done")


class Pipeline:
    """What is on the disk decides about the next step. Raises OSError if the disk does not answer, or is full.

    A finished file stays in `<reports>/.work` until it is in the output folder, so that it is converted only once.
    """

    def __init__(self, recipe: Recipe, *, key: SecretKey | None, program: Sequence[str]) -> None:
        """`program` runs one conversion; see Conversion.run()."""
        self._recipe = recipe
        self._program = program
        self._output = OutputFolder(recipe.output, key)
        self._records = Records(recipe.reports)
        self._recipes = {name: digest_of(options.words) for name, options in recipe.models.items()}
        self._command = digest_of(recipe.command) if recipe.command else ""

    def sweep(self) -> None:
        """Removes what a kill has left of conversions, except finished files that are not in the output folder yet."""
        for folder in self._recipe.reports.glob(".work/*/*"):
            name, number = folder.parent.name, folder.name
            record = self._records.read(name, int(number))
            model = record.model if record is not None else ""
            waits = model and _sha256(folder / f"{name}.tflite") == model
            if not waits or self._output.has(name, int(number), model):
                shutil.rmtree(folder, ignore_errors=True)

    def next_step(self, version: Version, sha256: str) -> Step:
        """`sha256` is that of the version's folder. Blocks."""
        self._recipe.output.stat()  # without its disk, nothing is missing there
        record = self._records.read(version.name, version.number)
        if record is None or (record.source, record.recipe) != (sha256, self._recipes[version.name]):
            return "convert"
        if record.reason is not None:
            return "refused"
        if self._output.has(version.name, version.number, record.model):
            if record.key != self._output.key_id:
                return "place"
            return "delivered" if record.command == self._command or not self._command else "deliver"
        return "place" if _sha256(self._conversion(version).finished) == record.model else "convert"

    async def take(self, step: Literal["convert", "place", "deliver"], version: Version, sha256: str) -> Outcome:
        if step == "convert":
            return await self._convert(version, sha256)
        if step == "deliver":
            return await self._deliver(version)
        await asyncio.to_thread(self._place, version)
        return _DONE

    def refuse(self, version: Version, sha256: str, reason: str) -> None:
        """Leaves the reason, and the report if there is one, for a person. Blocks."""
        self._record(version, sha256, reason)
        shutil.rmtree(self._folder(version), ignore_errors=True)
        refusal = self._records.refusal(version.name, version.number)
        log.warning("%s is refused: %s The reason is also in %s.", version, reason, refusal)

    async def _convert(self, version: Version, sha256: str) -> Outcome:
        if missing := " ".join(self._recipe.missing_for(version.name)):
            return Outcome("failed", missing)
        log.info("Converting %s.", version)
        program = [*self._program, str(os.getpid())]
        outcome = await self._conversion(version).run(program, limit_s=self._recipe.max_minutes * 60)
        for note in outcome.notes:
            log.info("%s: %s", version, note)
        if await asyncio.to_thread(stamps_of, version.path) != version.stamps:
            log.info("%s has changed while it was converted; it is converted again.", version)
        elif outcome.kind == "refused":
            await asyncio.to_thread(self.refuse, version, sha256, outcome.reason)
        elif outcome.kind == "done":
            await asyncio.to_thread(self._record, version, sha256, None)
        return outcome

    def _record(self, version: Version, sha256: str, reason: str | None) -> None:
        """The record is written last: without it, the version is converted again."""
        conversion = self._conversion(version)
        conversion.keep_report(self._records.page(version.name, version.number))
        model = _sha256(conversion.finished) if reason is None else ""
        words = shlex.join(["edge-convert", "convert", *conversion.words])
        advice = None if reason is None else f"To try again, remove this file. By hand: {words}"
        record = Record(sha256, self._recipes[version.name], reason=reason, model=model)
        self._records.write(version.name, version.number, record, advice=advice)

    def _place(self, version: Version) -> None:
        record = self._records.read(version.name, version.number)
        if record is None:  # removed meanwhile
            return
        finished = self._conversion(version).finished
        if _sha256(finished) != record.model:  # it is in the output folder, and gets the signature of another key
            finished = self._output.model(version.name, version.number)
        self._output.put(version.name, version.number, finished)
        self._records.write(version.name, version.number, record.placed(self._output.key_id))
        shutil.rmtree(self._folder(version), ignore_errors=True)
        log.info("%s is in %s.", version, self._output.model(version.name, version.number).parent)

    async def _deliver(self, version: Version) -> Outcome:
        command = self._recipe.command_for(version.name, version.number)
        log.info("Running for %s: %s", version, shlex.join(command))
        ended = await run_child(command, folder=self._recipe.output, limit_s=_COMMAND_S)
        if ended.code != 0:
            return Outcome("failed", f"The command failed ({ended.cause}).")
        record = await asyncio.to_thread(self._records.read, version.name, version.number)
        if record is not None:
            delivered = record.delivered(self._command)
            await asyncio.to_thread(self._records.write, version.name, version.number, delivered)
        log.info("The command for %s succeeded.", version)
        return _DONE

    def _conversion(self, version: Version) -> Conversion:
        return Conversion(version, self._recipe.models[version.name].words, self._folder(version))

    def _folder(self, version: Version) -> Path:
        return self._recipe.reports / ".work" / version.name / str(version.number)


def _sha256(file: Path) -> str:
    """Empty if the file does not exist."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""
