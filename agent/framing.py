"""Framing: what a view keeps of a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.image import Image

_ALL = (0.0, 0.0, 1.0, 1.0)


class Framing(NamedTuple):
    """What is looked at: `region` (left, top, right, bottom as fractions), rotated clockwise, then mirrored."""

    region: tuple[float, float, float, float] = _ALL
    rotate: int = 0
    mirror: bool = False

    def of(self, image: Image) -> Image:
        if self.region != _ALL:
            image = image.crop(self.region)
        image = image.rotate(self.rotate)
        return image.mirrored() if self.mirror else image

    def side_of_whole(self, side: int) -> int:
        """The `smallest_side` of a whole picture with which the region keeps `side` pixels."""
        left, top, right, bottom = self.region
        return math.ceil(side / min(right - left, bottom - top))


WHOLE = Framing()
