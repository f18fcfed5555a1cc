"""Health: whether a camera is covered, blurred or moved, judged by its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.cameras.scene import Scene
from agent.status import CameraHealth

if TYPE_CHECKING:
    from agent.cameras.scene import Array
    from agent.image import Pixels

HOLD_S = 10.0
_MINUTE_S, _SAMPLE_EVERY_S, _FEWEST_SAMPLES = 60.0, 10.0, 3

_EMPTY = 0.05  # structure below which a picture shows nothing
_DARK = 40.0  # brightness below which an empty picture is dark, and a night changes what can be seen
_RICH = 0.2  # structure above which a picture is worth being a reference
_SEEN = 0.2  # correlation above which the place of the reference is seen: photos as if at night had 0.35 and more
_GONE = 0.15  # and below which it is not there: other photos had at most 0.06
_UNSURE = 0.3  # and below which it is not there either if another position fits as well
_ELSEWHERE = 1.3  # times the correlation in place, with which the same place was found at another position
_BLURRED, _SHARP = 0.5, 0.6  # sharpness; between them, the last verdict stays

_OK = CameraHealth("ok")
_COVERED_DARK = CameraHealth(
    "covered", "The picture is dark and shows nothing. Uncover the lens, or switch on a light."
)
_COVERED_FLAT = CameraHealth("covered", "The picture is flat and shows nothing. Uncover the lens, or clean it.")
_BLURRED_NOW = CameraHealth(
    "blurred",
    "The picture is less sharp than the reference picture. Clean or focus the lens, or take a new reference picture.",
)
_MOVED = CameraHealth(
    "moved",
    "The camera does not show the place of the reference picture. Turn it back, or take a new reference picture.",
)


class HealthJudge:
    """Judges small gray pictures of one camera, about one per second. One thread at a time.

    - Covered: the picture has no structure but smooth shading, and the reference is not recognized in it. A room
      without any light, a white wall and dense fog look the same.
    - Moved: the edges of the reference are found at another position (a shift by at least 3 % of the width, also at
      night), or nowhere in a bright picture with many edges: the camera shows something else, was turned about its own
      axis by at least 15 degrees, or zooms by at least 1.5 (in 8 of 10 photos). People, shadows and lamps change only
      some of the edges. Fresh snow, or a truck in front of most of the picture, may look like a move.
    - Blurred: most edges that the picture and the reference have in common are blurred by at least 2 % of the width
      (standard deviation).

    A verdict counts once it has held for `hold_s`. A picture that says nothing, such as a night with a few lamps,
    changes nothing. The reference is the median of a minute in which the camera was ok and showed the same place, so
    it does not contain people who walk by; in the dark it waits for light.
    """

    def __init__(self, visible: Array, *, reference: Pixels | None = None, hold_s: float = HOLD_S) -> None:
        """`visible` is visible_part()'s of the camera's masks."""
        self.health = _OK
        self._visible = visible
        self._hold_s = hold_s
        self._reference = None if reference is None else Scene(reference, visible)
        self._before: Scene | None = None
        self._candidate, self._since_s = _OK, 0.0
        self._samples: list[Scene] = []
        self._first_s = self._sampled_s = 0.0

    @property
    def reference(self) -> Pixels | None:
        """None until the first minute has passed."""
        return None if self._reference is None else self._reference.pixels

    def look(self, pixels: Pixels, at_s: float) -> CameraHealth:
        """Takes a small_gray() picture and returns the verdict that counts now."""
        scene = Scene(pixels, self._visible)
        verdict = self._judge(scene)
        self._before = scene
        if verdict is not None:
            self._hold(verdict, at_s)
        if self._reference is None:
            self._sample(scene, at_s, is_ok=verdict == _OK)
        return self.health

    def retake(self) -> None:
        """Forgets the reference, so that the next minute gives a new one."""
        self._reference = None
        self._samples.clear()
        if self.health.state in ("blurred", "moved"):
            self.health = self._candidate = _OK

    def _judge(self, scene: Scene) -> CameraHealth | None:
        """None if the picture does not say."""
        reference = self._reference
        covered = None
        if scene.structure < _EMPTY:
            covered = _COVERED_DARK if scene.brightness < _DARK else _COVERED_FLAT
        if reference is None:
            return covered or _OK
        match = scene.match(reference)
        if covered is None and match.far >= max(_SEEN, _ELSEWHERE * match.near):
            return _MOVED
        sharpness = None if self._before is None else scene.sharpness(reference, self._before)
        has_light = scene.brightness >= _DARK and scene.structure >= reference.structure / 2
        is_gone = has_light and (match.near < _GONE or match.far >= match.near < _UNSURE)
        if match.near >= _SEEN and not is_gone:
            return self._judge_sharpness(sharpness)
        if covered is not None or scene.brightness < _DARK:
            return covered
        if match.near >= _GONE and sharpness is not None and sharpness < _BLURRED:
            return _BLURRED_NOW
        return _MOVED if is_gone else None

    def _judge_sharpness(self, sharpness: float | None) -> CameraHealth:
        """Of a camera that shows its place. Keeps the verdict if the sharpness is unknown or between the limits."""
        if sharpness is None or _BLURRED <= sharpness < _SHARP:
            return _BLURRED_NOW if self.health.state == "blurred" else _OK
        return _BLURRED_NOW if sharpness < _BLURRED else _OK

    def _hold(self, verdict: CameraHealth, at_s: float) -> None:
        if verdict.state != self._candidate.state:
            self._candidate, self._since_s = verdict, at_s
        elif verdict.state != self.health.state and at_s - self._since_s >= self._hold_s:
            self.health = verdict

    def _sample(self, scene: Scene, at_s: float, *, is_ok: bool) -> None:
        if not is_ok or self.health != _OK or scene.structure < _RICH or scene.brightness < _DARK:
            self._samples.clear()
            return
        if not self._samples:
            self._first_s = at_s
        elif at_s - self._sampled_s < _SAMPLE_EVERY_S:
            return
        elif not _show_the_same_place(scene, self._samples[0]):
            self._samples.clear()
            return
        self._samples.append(scene)
        self._sampled_s = at_s
        if at_s - self._first_s >= _MINUTE_S and len(self._samples) >= _FEWEST_SAMPLES:
            median = np.median([sample.pixels for sample in self._samples], axis=0).astype(np.uint8)
            self._reference = Scene(median, self._visible)
            self._samples.clear()


def _show_the_same_place(one: Scene, other: Scene) -> bool:
    match = one.match(other)
    return match.near >= max(_SEEN, match.far)
