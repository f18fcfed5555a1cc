"""State: the label that a view shows for several frames in a row."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from agent.classification import Category, StableState
from agent.runtimes.scores import Scores

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.classification import Classification, ModelIdentity


class StableLabel:
    """Filters out labels that flicker: a new label counts once it was seen in `frames` frames in a row.

    The label of a frame is the best one, if it reaches `score_threshold` (None: the model's own). If none does, the
    label of the state stays while its score reaches `leave_threshold` (None: `score_threshold`). With `mean_frames`,
    the scores are means over so many frames of the same version. A state lasts `hold_s` before its label changes.

    The same label from another version is also a new state, because the state contains its model.
    """

    def __init__(
        self,
        *,
        frames: int,
        score_threshold: float | None = 0.5,
        leave_threshold: float | None = None,
        hold_s: float = 0.0,
        mean_frames: int = 1,
    ) -> None:
        self._frames = frames
        self._score_threshold = score_threshold
        self._leave_threshold = leave_threshold
        self._hold_ns = int(hold_s * 1e9)
        self._window: deque[npt.NDArray[np.float32]] = deque(maxlen=mean_frames)
        self._window_model: ModelIdentity | None = None
        self._published: tuple[str | None, ModelIdentity] | None = None
        self._held_until_ns = 0
        self._label: str | None = None
        self._since_ns = 0
        self._count = 0
        self.is_settled = False  # the newest frame, also without the mean, has the label of the state

    def adjust(self, *, score_threshold: float | None, leave_threshold: float | None) -> None:
        """From the next frame on; the state stays until a frame changes it."""
        self._score_threshold = score_threshold
        self._leave_threshold = leave_threshold
        self.is_settled = False

    def observe(
        self, classification: Classification, scores: Scores, *, captured_ns: int, unix_ns: int
    ) -> StableState | None:
        """The new state if this frame makes it stable, else None; a frame without categories has the label None.

        `classification` has the categories of at least `score_threshold`, `scores` all of them. `captured_ns` is a
        time.monotonic_ns(), `unix_ns` the same time for the state.
        """
        best = alone = self._kept(next(iter(classification.categories), None), scores)
        if self._window.maxlen != 1:
            best = self._best_of_mean(classification.model, scores)
        label = best.label if best else None
        if self._count == 0 or label != self._label:
            self._label, self._since_ns, self._count = label, captured_ns, 0
        self._count += 1
        state = label, classification.model
        is_new = self._published != state and self._count >= self._frames and not self._is_held(label, captured_ns)
        if is_new:
            if self._published is None or label != self._published[0]:
                self._held_until_ns = captured_ns + self._hold_ns
            self._published = state
        self.is_settled = self._published == state and label == (alone.label if alone else None)
        if not is_new:
            return None
        since_ns = unix_ns - (captured_ns - self._since_ns)  # by the clock as it is set now
        return StableState(label, best.score if best else None, since_ns, state[1])

    def _kept(self, best: Category | None, scores: Scores) -> Category | None:
        """`best`, or if it is None the label of the state, if that may stay."""
        label = self._published[0] if self._published else None
        if best is not None or self._leave_threshold is None or label not in scores.labels:
            return best
        probabilities = scores.probabilities
        same = (index for index, each in enumerate(scores.labels) if each == label)  # several outputs may have it
        index = max(same, key=probabilities.__getitem__)
        score = float(probabilities[index])
        return Category(index, label, score) if score >= self._leave_threshold else None

    def _best_of_mean(self, model: ModelIdentity, scores: Scores) -> Category | None:
        if model != self._window_model:
            self._window.clear()
            self._window_model = model
        self._window.append(scores.probabilities)
        values = np.asarray(np.mean(self._window, axis=0), np.float32)
        mean = Scores(values, scores.labels, scale=0.0, zero_point=0, are_logits=False)
        best = mean.best(1, threshold=scores.threshold(self._score_threshold))
        return self._kept(next(iter(best), None), mean)

    def _is_held(self, label: str | None, captured_ns: int) -> bool:
        if self._hold_ns == 0 or self._published is None or label == self._published[0]:
            return False
        return captured_ns < self._held_until_ns
