"""MutantRun: drops mutants on an agent that serves several models under load, and records the outcome."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agents.running_agent import RunningAgent, wait_until
from faults.drops import Drops
from faults.load import Load
from faults.scrape import scraped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from faults.drops import Verdict
    from faults.mutants import Mutant
    from typing_extensions import Self

_WITHOUT_CHECKSUM = 10  # one of 10 mutants is dropped without a checksum
_SEEN = 3  # uploads to answer after an accepted mutant, before the next drop
# Errors that the model itself causes; the service is responsible for any other failed request.
_OWN_FAILURES = (
    "returned NaN or infinity for this image",
    '"The runtime (',
    '"The model needs more memory',
    '"The model returned ',
)


@dataclass(frozen=True, slots=True)
class Original:
    """A good model file; `labels` is empty if the file contains them."""

    content: bytes = field(repr=False)
    labels: tuple[str, ...] = ()
    minisig: bytes | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class DroppedMutant:
    """A mutant that was dropped under a model's name, and the agent's verdict."""

    name: str
    mutant: Mutant
    with_checksum: bool
    verdict: Verdict


class MutantRun:
    """Uploads to each model continuously, from before the first mutant to after the last one."""

    def __init__(self, folder: Path, originals: dict[str, Original], **models: Any) -> None:
        """`models` extends that section of the agent's configuration."""
        settings = {name: {"labels": list(each.labels)} for name, each in originals.items() if each.labels}
        self.dropped: list[DroppedMutant] = []
        self.originals = originals
        self._state = folder / "state"
        self.agent = RunningAgent(folder, models={"settings": settings, "retire_after_s": 1, **models})
        self._parts = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as parts:
            parts.enter_context(self.agent)
            self.drops = parts.enter_context(Drops(self.agent))
            for name, original in self.originals.items():
                if original.minisig is not None:
                    (self.agent.models / f"{name}.tflite.minisig").write_bytes(original.minisig)
                verdict = self.drops.verdict(self.drops.put(original.content, name))
                assert verdict.outcome == "accepted", verdict.reason
            self.load = parts.enter_context(Load(self.agent, *self.originals))
            for name in self.originals:
                self.load.wait_for_more(_SEEN, name)
            self.resident_bytes_before = self.resident_bytes()
            self._parts = parts.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.__exit__(kind, error, trace)

    def drop_in_turn(self, mutants: Sequence[tuple[str, Mutant]]) -> None:
        """Drops one mutant after another; each pair is a model's name and its mutant."""
        for number, (name, mutant) in enumerate(mutants):
            with_checksum = number % _WITHOUT_CHECKSUM > 0
            verdict = self.drops.verdict(self.drops.put(mutant.content, name, with_checksum=with_checksum))
            self.dropped.append(DroppedMutant(name, mutant, with_checksum, verdict))
            if verdict.outcome != "refused":
                self.load.wait_for_more(_SEEN, name)

    def drop_together(self, mutants: Sequence[tuple[str, Mutant]]) -> None:
        """Drops the first mutant of each model under the model's name and the others under new names, all signed."""
        names: list[str] = []
        for name, _ in mutants:
            names.append(name if name not in names else f"{name}-{len(names)}")
        dropped = []
        for name, (model, mutant) in zip(names, mutants, strict=True):
            if (minisig := self.originals[model].minisig) is not None:
                (self.agent.models / f"{name}.tflite.minisig").write_bytes(minisig)
            dropped.append(self.drops.put(mutant.content, name))
        for drop, (_, mutant) in zip(dropped, mutants, strict=True):
            verdict = self.drops.verdict(drop)
            self.dropped.append(DroppedMutant(drop.name, mutant, with_checksum=False, verdict=verdict))

    @property
    def own_failures(self) -> list[str]:
        """Requests that failed because of an accepted mutant."""
        return [failure for failure in self._failures() if any(own in failure for own in _OWN_FAILURES)]

    @property
    def failures(self) -> list[str]:
        """All other failed requests."""
        return [failure for failure in self._failures() if not any(own in failure for own in _OWN_FAILURES)]

    @property
    def mixed_up(self) -> list[str]:
        """Answers by the wrong file or version, by a refused file, or by one that was never dropped."""
        return [error for name in self.originals for error in self._mixed_up(name)]

    @property
    def unsteady(self) -> set[str]:
        """Every sha256 that gave different answers to the same picture."""
        return {sha256 for name in self.originals for sha256 in self.load[name].unsteady}

    def rollbacks(self) -> Counter[str]:
        """The number of withdrawn mutants, by cause."""
        causes: Counter[str] = Counter()
        for labels, count in scraped(self.agent, "edge_agent_model_rollbacks_total"):
            causes[labels["cause"]] += int(count)
        return causes

    def resident_bytes(self) -> int:
        ((_, resident_bytes),) = scraped(self.agent, "process_resident_memory_bytes")
        return int(resident_bytes)

    def remove_models(self) -> list[Path]:
        """Ends the load, removes every model and its sidecars, and returns the files that the agent leaves behind."""
        self.load.stop()
        for path in list(self.agent.models.iterdir()):
            if path.suffix in (".tflite", ".sha256", ".minisig"):
                path.unlink()
        wait_until(lambda: not self.agent.json("/v1/models")["models"], what="every model is retired")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._left(), timeout_s=3, what="nothing is left behind")
        return self._left()

    def _mixed_up(self, name: str) -> list[str]:
        verdicts = {each.mutant.sha256: each.verdict for each in self.dropped if each.name == name}
        answered = self.load[name].versions.keys() - {self.originals[name].sha256}
        refused = {sha256 for sha256 in answered if sha256 in verdicts and verdicts[sha256].outcome == "refused"}
        return [
            *self.load[name].mixed_up,
            *(f"{sha256[:12]} answered, but: {verdicts[sha256]}" for sha256 in refused),
            *(f"{sha256[:12]} answered and was never dropped" for sha256 in answered - verdicts.keys()),
        ]

    def _left(self) -> list[Path]:
        """Notes, and temporary files."""
        temporary = [path for path in self._state.rglob(".*") if path.is_file()]
        return [*temporary, *self.agent.models.iterdir()]

    def _failures(self) -> list[str]:
        return [failure for name in self.originals for failure in self.load[name].failures]
