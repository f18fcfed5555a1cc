"""Progress: the interface through which a long job shows its progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

T = TypeVar("T")


class Track(Protocol):
    """Shows the user the current step; `what` is a short text such as `Converting`."""

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        """Yields `items` and shows how many are done."""
        ...

    def step(self, what: str) -> AbstractContextManager[object]:
        """Shows that the block is running, without a count."""
        ...
