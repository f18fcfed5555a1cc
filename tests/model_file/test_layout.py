from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from agent.errors import ModelError
from agent.model_file.layout import Layout, layout_of
from agent.model_file.metadata import Tensor


def layout(*shape: int) -> Layout:
    return layout_of(Tensor("image", shape, "float32"))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 64, 48, 3), Layout("NHWC", 1, 64, 48, 3)),
        ((1, 64, 48, 1), Layout("NHWC", 1, 64, 48, 1)),
        ((8, 64, 48, 3), Layout("NHWC", 8, 64, 48, 3)),
        ((1, 3, 64, 48), Layout("NCHW", 1, 64, 48, 3)),
        ((1, 1, 64, 48), Layout("NCHW", 1, 64, 48, 1)),
        ((4, 3, 64, 48), Layout("NCHW", 4, 64, 48, 3)),
        ((1, 3, 64, 3), Layout("NHWC", 1, 3, 64, 3)),
        ((1, 28, 24), Layout("NHW", 1, 28, 24, 1)),
        ((16, 28, 24), Layout("NHW", 16, 28, 24, 1)),
        ((64, 48, 3), Layout("HWC", 1, 64, 48, 3)),
        ((28, 24, 1), Layout("HWC", 1, 28, 24, 1)),
        ((3, 64, 48), Layout("CHW", 1, 64, 48, 3)),
    ],
)
def test_layout_of_usual_shapes(shape: tuple[int, ...], expected: Layout) -> None:
    assert layout(*shape) == expected


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 32, 32, 4), "its input has 4 channels, not 3 .* Export it with a color or gray input"),
        ((1, 4, 32, 32), "its input has 4 channels"),
        ((1, 7, 7, 1280), "its input has 1280 channels"),
        ((1, 784), "its input is 1 x 784, not 1 x height x width x channels"),
        ((28, 28), "its input is 28 x 28, not 1 x height x width x channels"),
        ((16000,), "its input is 16000, not 1 x height"),
        ((), "of unknown shape"),
        ((1, 8, 16, 16, 3), "its input is 1 x 8 x 16 x 16 x 3"),
        ((1, 0, 32, 1), "no fixed input size"),
        ((1, -1, -1, 3), "no fixed input size"),
    ],
)
def test_other_shapes_are_refused_with_the_remedy(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        layout(*shape)


@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.sampled_from([("NHWC", 3), ("NHWC", 1), ("NCHW", 3), ("NCHW", 1), ("HWC", 3), ("CHW", 3), ("NHW", 1)]),
)
def test_every_pixel_is_where_the_layout_says(height: int, width: int, form: tuple[str, int]) -> None:
    axes, channels = form
    arranged = Layout(axes, 1, height, width, channels).arrange(
        np.arange(height * width * channels).reshape(height, width, channels)
    )
    for y, x, c in ((0, 0, 0), (height - 1, 1, channels - 1), (1, width - 1, channels // 2)):
        place = tuple({"N": 0, "H": y, "W": x, "C": c}[axis] for axis in axes)
        assert arranged[place] == (y * width + x) * channels + c
    assert arranged.flags["C_CONTIGUOUS"]
