"""Drops: files put into the models folder, and the agent's verdicts on them."""

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

_LONGEST_S = 150  # a trial may take a minute of wall time or two minutes of processor time

# `withdrawn`: it passed its trial, but loading it or its probation failed.
Outcome: TypeAlias = Literal["accepted", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Drop:
    """A file that was put into the folder at `at`, in the format of the agent's times."""

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
    """Uses one connection for all requests: a new one per request would add load."""

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
        """Writes the file as `cp` does, and then its checksum; removes an old checksum."""
        path = self._folder / f"{name}.tflite"
        sha256, checksum = hashlib.sha256(content).hexdigest(), path.with_name(f"{path.name}.sha256")
        path.write_bytes(content)
        if with_checksum:
            checksum.write_text(f"{sha256}  {path.name}\n")
        else:  # not earlier: the agent would examine and judge the old file again
            checksum.unlink(missing_ok=True)
        return Drop(name, sha256, iso_time(time.time_ns()), time.monotonic())

    def verdict(self, drop: Drop) -> Verdict:
        """Waits for the agent's verdict."""
        verdicts: list[Verdict] = []

        def is_there() -> bool:
            found = _found(self.status(drop.name), drop)
            if found is not None:
                verdicts.append(Verdict(*found, time.monotonic() - drop.at_s))
            return bool(verdicts)

        wait_until(is_there, timeout_s=_LONGEST_S, what=f"a verdict on {drop.sha256[:12]} as {drop.name}")
        return verdicts[0]

    def status(self, name: str) -> dict[str, Any]:
        """Empty for an unknown model."""
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
