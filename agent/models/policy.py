"""Policy: which versions of a model should serve, and which one to blame for a crash; pure functions of its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.models.versions import ModelHistory, Version

_FAILED_STARTS = 3


def aspired(
    history: ModelHistory, *, best: int | None, unloadable: Collection[int] = (), has_canary: bool = False
) -> tuple[Version | None, Version | None]:
    """The stable version and the canary that should be in memory.

    In this order: what a person pinned, what the drop folder asks for (`best`), what was stable, the newest proven
    version, the newest one. With `has_canary`, what comes before the stable version is a canary beside it.
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
    """The reason to withdraw a suspect after a run that ended badly; None if it may try again.

    `crashed` is false after a power cut, `has_others` says whether another good version could serve.
    """
    take_back = f"If the model is not to blame, pin it: edge-agent models pin {name} {version.number}."
    if version.starts >= _FAILED_STARTS:
        return f"The agent died in {version.starts} starts in a row with this version. Drop another one. {take_back}"
    if crashed and has_others and not version.proven:
        return f"The agent died while this version was on probation. Drop a mended one. {take_back}"
    return None
