"""Motion: whether a view has changed since its last frame that was classified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from agent.image import Image

if TYPE_CHECKING:
    from agent.frame import Frame
    from agent.framing import Framing

    Cells: TypeAlias = npt.NDArray[np.float32]  # rows x columns x luma and two chroma values

_CELLS = 24  # along the shorter side of the view, or up to twice as many
_BLACK = 16  # added to the luma, since noise would make large ratios of dark ones
_BRIGHTNESS = 1.15  # a larger ratio of the brightness is a change
_LEAST, _MOST = 6.0, 24.0  # of 255 levels: compression alone changes a cell less, and noise in its mean is less
_NOISES = 6  # standard deviations
_DEVIATIONS = 1.4826  # standard deviation of normal noise, in medians of its absolute values


class MotionGate:
    """Compares the mean color of each cell, a block of pixels, with the last frame that was classified.

    The view has changed if one cell has. An object whose sides are 1/12 of the view's shorter side covers a whole cell,
    so it is enough if its luma or chroma differs by 6 of 255 levels from what it covers. Two kinds of differences do
    not count. One is what all cells have in common (dusk, exposure, white balance), unless it is more than 15 %, as
    when a lamp is switched on. The other is noise, which is estimated from the differences of all cells.

    The sides of a cell are a power of two, usually at least 8 pixels: a JPEG that is decoded at an eighth of its size
    has the same cells, and its compression moves the mean of a block less than its pixels. For one view, and one thread
    at a time.
    """

    def __init__(self, framing: Framing, *, forced_every_s: float) -> None:
        self._region = framing.region
        self._smallest_side = framing.side_of_whole(_CELLS)
        self._forced_every_ns = int(forced_every_s * 1e9)
        self._seen: Cells | None = None
        self._classified: Cells | None = None
        self._due_ns = 0

    def is_open(self, frame: Frame) -> bool:
        """Whether to classify this frame. Decodes it, so call it in a thread. Raises ImageError."""
        self._seen = self._cells(frame.image(self._smallest_side, is_preview=True))
        return self._classified is None or frame.captured_ns >= self._due_ns or _differ(self._seen, self._classified)

    def classified(self, frame: Frame) -> None:
        """The frame of the last is_open() was classified."""
        self._classified = self._seen
        self._due_ns = frame.captured_ns + self._forced_every_ns

    def _cells(self, image: Image) -> Cells:
        halvings = max(0, (min(image.width, image.height) // self._smallest_side).bit_length() - 1)
        columns, rows = image.width >> halvings, image.height >> halvings
        left, top, right, bottom = self._region
        x0, y0 = int(left * columns), int(top * rows)
        x1, y1 = max(x0 + 1, round(right * columns)), max(y0 + 1, round(bottom * rows))
        pixels = image.pixels[y0 << halvings : y1 << halvings, x0 << halvings : x1 << halvings]
        for _ in range(halvings - 1):  # OpenCV's fastest path
            pixels = _halved(pixels)
        values = Image(pixels, image.color).to_color("bgr").pixels.astype(np.float32)
        cells: Cells = cv2.cvtColor(_halved(values) if halvings else values, cv2.COLOR_BGR2YCrCb)
        cells[..., 0] += _BLACK
        return cells


def _halved(pixels: Any) -> Any:
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _differ(cells: Cells, others: Cells) -> bool:
    if cells.shape != others.shape:
        return True
    brightness = float(np.median(cells[..., 0] / others[..., 0]))
    differences = cells - brightness * others
    common = np.median(differences, axis=(0, 1))
    if not 1 / _BRIGHTNESS <= brightness <= _BRIGHTNESS or np.abs(common).max() > _LEAST:
        return True
    differences = np.abs(differences - common)
    noise = _DEVIATIONS * np.median(differences, axis=(0, 1))  # if more than half of the cells have only noise
    return bool((differences > np.clip(_NOISES * noise, _LEAST, _MOST)).any())
