"""Progress: how a long job shows how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

T = TypeVar("T")


class Track(Protocol):
    """Shows a person what is being done; `what` is a short text such as `Converting`."""

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        """Passes `items` on, one at a time, and shows how many are done."""
        ...

    def step(self, what: str) -> AbstractContextManager[object]:
        """Shows that the block inside runs, for which nothing can be counted."""
        ...
