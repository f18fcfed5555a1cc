"""Drops: files put into the models folder, and what the agent made of them."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import httpx
from agents.running_agent import wait_until

from agent.classification import iso_time

if TYPE_CHECKING:
    from types import TracebackType

    from agents.running_agent import RunningAgent
    from typing_extensions import Self

_LONGEST_S = 150  # a trial may take a minute of time, or two of computing

# `withdrawn`: it passed its trial, and was found out when it was loaded or while on probation.
Outcome: TypeAlias = Literal["accepted", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Drop:
    """A file that lies in the folder now; `at` as the agent writes times."""

    name: str
    sha256: str
    at: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    reason: str
    took_s: float


class Drops:
    """Asks over one connection: a new one for each question would be a load of its own."""

    def __init__(self, agent: RunningAgent) -> None:
        self._folder = agent.models
        self._client = httpx.Client(base_url=agent.url, timeout=20, verify=False, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def put(self, content: bytes, name: str, *, with_checksum: bool = False) -> Drop:
        """Writes the file as `cp` does, and the checksum after it; an old checksum goes."""
        path = self._folder / f"{name}.tflite"
        sha256, checksum = hashlib.sha256(content).hexdigest(), path.with_name(f"{path.name}.sha256")
        path.write_bytes(content)
        if with_checksum:
            checksum.write_text(f"{sha256}  {path.name}\n")
        else:  # not before: the file that lay there would be looked at once more, and judged once more
            checksum.unlink(missing_ok=True)
        return Drop(name, sha256, iso_time(time.time_ns()), time.monotonic())

    def verdict(self, drop: Drop) -> Verdict:
        """Waits for it."""
        verdicts: list[Verdict] = []

        def is_there() -> bool:
            found = _found(self.status(drop.name), drop)
            if found is not None:
                verdicts.append(Verdict(*found, time.monotonic() - drop.at_s))
            return bool(verdicts)

        wait_until(is_there, timeout_s=_LONGEST_S, what=f"a verdict on {drop.sha256[:12]} as {drop.name}")
        return verdicts[0]

    def status(self, name: str) -> dict[str, Any]:
        """Empty where there is no such model."""
        answer = self._client.get(f"/api/models/{name}")
        status: dict[str, Any] = answer.json()
        return status if answer.is_success else {}


def _found(status: dict[str, Any], drop: Drop) -> tuple[Outcome, str] | None:
    for version in status.get("versions", ()):
        if version["sha256"] == drop.sha256 and version["state"] == "serving":
            return "accepted", ""
        if version["sha256"] == drop.sha256 and version["state"] == "rejected":
            return "withdrawn", version["reason"]
    rejection = status.get("rejection")
    if rejection and rejection["at"] >= drop.at:
        return "refused", rejection["reason"]
    return None
