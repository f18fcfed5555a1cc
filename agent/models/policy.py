"""Policy: the rules for choosing and keeping versions, as values and as pure functions of a model's history."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.models.versions import ModelHistory, Version

_FAILED_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which versions are kept, and how a new version replaces the serving one.

    `canary_shares` has, by model, the share of the uploads (0 to 1) that a new version gets as a canary. With
    `unloads_first`, if both do not fit in memory, the serving version is unloaded before the next one is loaded.
    """

    keep_versions: int = 3
    canary_shares: Mapping[str, float] = field(default_factory=dict)
    unloads_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Waiting times in seconds; `clock` is monotonic.

    A file is read once it has not changed for `rest_s`. A file that seems truncated may still be growing: it is
    rejected after `patience_s` without a change. The folder is listed at least every `rescan_s`. A model is retired
    `retire_after_s` after its last file was removed.
    """

    rest_s: float = 1.0
    patience_s: float = 5.0
    rescan_s: float = 5.0
    retire_after_s: float = 10.0
    clock: Callable[[], float] = time.monotonic


def aspired(
    history: ModelHistory, *, best: int | None, unloadable: Collection[int] = (), has_canary: bool = False
) -> tuple[Version | None, Version | None]:
    """The stable version and the canary that should be in memory.

    The order of preference: the pinned version, the one that the drop folder asks for (`best`), the stable one, the
    newest proven one, the newest one. With `has_canary`, a version preferred to the stable one becomes the canary.
    """
    good = {version.number: version for version in history.good if version.number not in unloadable}
    if history.pinned is not None and history.pinned in good:
        return good[history.pinned], None
    proven = [number for number, version in good.items() if version.proven]
    order = (best, history.stable, *reversed(proven), *reversed(good))
    first = next((good[number] for number in order if number in good), None)
    stable = good.get(history.stable) if history.stable is not None else None
    if has_canary and stable is not None and first != stable:
        return stable, first
    return first, None


def why_blamed(name: str, version: Version, *, crashed: bool, has_others: bool) -> str | None:
    """The reason to withdraw a suspect after a run that ended badly; None if it may run again.

    `crashed` is false after a power cut, `has_others` says whether another good version could serve.
    """
    restore = f"If the model is not the cause, pin it: edge-agent models pin {name} {version.number}."
    if version.starts >= _FAILED_STARTS:
        return (
            f"The agent crashed on {version.starts} consecutive starts with this version. Drop another one. {restore}"
        )
    if crashed and has_others and not version.proven:
        return f"The agent crashed while this version was on probation. Drop a fixed version. {restore}"
    return None
