"""Feed: an open live camera, whose frames arrive at its own pace."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from agent.frame import Frame


class Arrival(NamedTuple):
    """What arrived since the last one: how many frames, and the newest of them if it was wanted."""

    frames: int
    frame: Frame | None = None


class Feed(Protocol):
    """read() and close() belong to the capture thread."""

    def want(self) -> None:
        """The next frame is to be handed over; the others are only counted. Any thread; does not block."""

    def read(self, timeout_s: float) -> Arrival | None:
        """Waits for frames, about `timeout_s` at most; None if none came. Raises SourceError if the camera ended."""

    def close(self) -> None:
        """Releases the camera, also one that hangs. Returns soon."""


class Input(Protocol):
    """A camera that can be opened."""

    @property
    def name(self) -> str:
        """Shown to users, so without a password."""

    def open(self) -> Feed:
        """Blocks for a few seconds at most; raises SourceError."""

    def explain(self, *, opened: bool) -> str:
        """A sentence: why it did not open or, if it was `opened`, why it stopped giving frames. Blocks as open()."""
