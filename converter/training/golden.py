"""Golden samples of a trained model: held-out photos that a device classifies before it serves the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from converter.training.features import Pixels

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.training.dataset import Dataset
    from converter.training.partition import Partition

    Floats: TypeAlias = npt.NDArray[np.float32]

_MOST = 10
_QUALITY = 95
_CERTAIN = 0.6  # the least score: int8 must not change the answer


def golden_samples(dataset: Dataset, divided: Partition, scores: Floats, side: int) -> dict[str, bytes]:
    """JPEGs at the input size by `<label>/<number>.jpg`: the surest right answers, one per class in turn."""
    truth = dataset.truth[divided.judged]
    pixels = Pixels(side)
    files: dict[str, bytes] = {}
    for turn in range(_MOST):
        for label, name in enumerate(dataset.labels):
            own = np.flatnonzero((truth == label) & (scores.argmax(axis=1) == label) & (scores.max(axis=1) >= _CERTAIN))
            own = own[np.argsort(-scores[own, label], kind="stable")]
            if len(own) > turn and len(files) < _MOST:
                photo = dataset.photos[int(divided.judged[own[turn]])]
                rgb = pixels.of([photo])[0]
                encoded = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
                files[f"{name}/{turn + 1}.jpg"] = encoded
    return files
