"""Frame: one picture of a camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from agent.image import MAX_PIXELS, Image, decode

if TYPE_CHECKING:
    from agent.image import Encoded

Polygon: TypeAlias = "tuple[tuple[float, float], ...]"  # corners x, y as fractions of the width and the height


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of a stream and the time.monotonic_ns() at which it was captured.

    `picture` is what the camera sent, and only sources may use it: everything that leaves a source takes image(),
    which fills the `masks`. `smallest_side` is what earlier frames were asked for, so that one decoding serves all.
    """

    picture: Image | Encoded
    captured_ns: int
    masks: tuple[Polygon, ...] = ()
    smallest_side: int = 0
    _ready: list[tuple[float, Image]] = field(default_factory=list, init=False, compare=False, repr=False)

    def image(
        self, smallest_side: int | None = None, *, max_pixels: int = MAX_PIXELS, is_preview: bool = False
    ) -> Image:
        """The picture with its masks filled; a JPEG may be reduced, with sides of at least `smallest_side`.

        Decodes only if no earlier call had a picture of that size. A preview is as small as it can be, since others
        may need no picture of this frame. On any thread: at worst two decode the same. Raises ImageError.
        """
        side = smallest_side if smallest_side is None or is_preview else max(smallest_side, self.smallest_side)
        asked = math.inf if side is None else side
        for ready, image in self._ready:
            if ready >= asked:
                return image
        if isinstance(self.picture, Image):
            asked, image = math.inf, self.picture
        else:
            image = decode(self.picture, max_pixels=max_pixels, smallest_side=side)
        image = image.filled(self.masks)
        self._ready[:] = [(asked, image)]
        return image

    @property
    def asked_side(self) -> int:
        """The largest `smallest_side` that image() was asked for; 0 if the whole picture was, or nothing."""
        return max((int(side) for side, _ in self._ready if side < math.inf), default=0)
