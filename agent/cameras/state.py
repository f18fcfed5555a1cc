"""State: the label that a camera shows for several frames in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.classification import Category, StableState

if TYPE_CHECKING:
    from agent.classification import Classification, ModelIdentity


class StableLabel:
    """Filters out labels that flicker: a new label counts once it was seen in `frames` frames in a row.

    The same label from another version is also a new state, because the state contains its model.
    """

    def __init__(self, *, frames: int) -> None:
        self._frames = frames
        self._published: tuple[str | None, ModelIdentity] | None = None
        self._label: str | None = None
        self._since_ns = 0
        self._count = 0

    def observe(self, classification: Classification, captured_ns: int) -> StableState | None:
        """The new state if this frame makes it stable, else None; a frame without categories has the label None."""
        best: Category | None = next(iter(classification.categories), None)
        label = best.label if best else None
        if self._count == 0 or label != self._label:
            self._label, self._since_ns, self._count = label, captured_ns, 0
        self._count += 1
        state = label, classification.model
        if self._count < self._frames or self._published == state:
            return None
        self._published = state
        return StableState(label, best.score if best else None, self._since_ns, classification.model)
