"""Versions: the versions of a model with the states of TensorFlow Serving, the same over REST and gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.status import ModelStatus


class VersionState(NamedTuple):
    """`failure` is why the version does not serve, if the agent withdrew or rejected it."""

    version: int
    state: Literal["AVAILABLE", "LOADING", "END"]
    failure: str | None = None


def version_states(status: ModelStatus) -> list[VersionState]:
    """A candidate before its trial and a rejected file have no version number yet; they are listed as version 0."""
    listed = list(_listed(status))
    if status.candidate is not None and not listed:
        listed.append(VersionState(0, "LOADING"))
    return listed


def _listed(status: ModelStatus) -> Iterator[VersionState]:
    for identity in (status.serving, status.canary):
        if identity is not None:
            yield VersionState(identity.version, "AVAILABLE")
    for version in status.versions:
        if version.state == "admitted":
            is_loading = version == status.versions[0] and version.file == status.candidate
            yield VersionState(version.version, "LOADING" if is_loading else "END")
        elif version.state == "rejected":
            yield VersionState(version.version, "END", version.reason or "Withdrawn.")
    rejection = status.rejection
    if rejection is not None and all(version.reason != rejection.reason for version in status.versions):
        yield VersionState(0, "END", rejection.reason)
