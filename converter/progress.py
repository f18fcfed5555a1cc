"""Progress: how a long job shows how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")


class Track(Protocol):
    """Passes `items` on, one by one, and shows how many are done of what."""

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]: ...


def untracked(items: Sequence[T], what: str) -> Iterable[T]:  # noqa: ARG001  (a Track takes it)
    return items
