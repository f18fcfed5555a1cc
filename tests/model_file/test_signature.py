"""Which signature is an image classifier, and the errors for those that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import ModelError, SignatureError
from agent.model_file.metadata import Tensor
from agent.model_file.signature import Signature, choose_signature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.signature import ImageSignature, Size

SCORES = Tensor("scores", (-1, 4), "float32")


def taking(
    shape: Sequence[int] = (-1, 32, 24, 3),
    *,
    dtype: str = "float32",
    key: str = "serving_default",
    outputs: Sequence[Tensor] = (SCORES,),
) -> Signature:
    return Signature(key, (Tensor("image", tuple(shape), dtype),), tuple(outputs))


def chosen(*signatures: Signature, key: str | None = None, size: Size | None = None) -> ImageSignature:
    return choose_signature(signatures, key=key, size=size)


def refusal(*signatures: Signature, size: Size | None = None) -> str:
    with pytest.raises(ModelError) as raised:
        chosen(*signatures, size=size)
    assert not isinstance(raised.value, SignatureError)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_open_batch_becomes_one_image() -> None:
    assert chosen(taking()).input == Tensor("image", (1, 32, 24, 3), "float32")
    assert chosen(taking()).output == SCORES


def test_signature_is_chosen_by_name_even_with_a_default() -> None:
    assert chosen(taking(), taking(key="other"), key="other").key == "other"


def test_serving_default_is_preferred_to_others_that_fit() -> None:
    assert chosen(taking(key="a"), taking(), taking(key="z")).key == "serving_default"


def test_only_fitting_signature_is_preferred_to_a_default_that_does_not_fit() -> None:
    assert chosen(taking((-1, 10)), taking(key="images")).key == "images"


def test_caller_must_choose_when_several_signatures_fit_without_a_default() -> None:
    with pytest.raises(SignatureError) as raised:
        chosen(taking(key="day"), taking(key="night"), taking((-1, 10), key="text"))
    assert str(raised.value) == "Several signatures fit. Choose one: --signature day or night."


def test_unknown_signature_is_refused_with_the_available_names() -> None:
    with pytest.raises(SignatureError) as raised:
        chosen(taking(key="day"), taking(key="night"), key="dusk")
    assert str(raised.value) == "The model has no signature 'dusk'. Available: day, night."


def test_model_without_signatures_is_refused_with_the_remedy() -> None:
    assert "has no signature" in refusal()
    assert "model.export" in refusal()


def test_default_signature_is_described_when_none_fits() -> None:
    message = refusal(taking((-1, 10), key="a"), taking((-1, 7)))
    assert "its input is ? x 7, not images x height x width x channels" in message
    assert message.endswith("serving_default takes image: float32 ? x 7 and returns scores: float32 ? x 4.")


def test_oblong_input_is_accepted_when_the_size_is_given() -> None:
    assert chosen(taking((-1, 100, 20, 3)), size=(100, 20)).input.shape == (1, 100, 20, 3)


def test_input_up_to_three_times_as_long_as_wide_is_accepted() -> None:
    assert chosen(taking((-1, 30, 90, 1))).input.shape == (1, 30, 90, 1)
    assert "which looks like audio features" in refusal(taking((-1, 30, 91, 1)))


def test_string_input_is_refused_with_the_remedy() -> None:
    message = refusal(taking((-1,), dtype="string"))
    assert message.startswith("The model does not take pixels: its input is a string, that is text or an encoded image")
    assert "export a signature that takes the decoded pixels" in message


def test_signature_that_takes_pixels_is_preferred_to_one_that_takes_strings() -> None:
    assert chosen(taking((-1,), dtype="string"), taking(key="pixels")).key == "pixels"


@pytest.mark.parametrize("channels", [4, 2, -1])
def test_input_with_other_channels_is_refused_with_the_remedy(channels: int) -> None:
    message = refusal(taking((-1, 32, 24, channels)))
    assert message.startswith("The model cannot get camera images: its input has ")
    assert "channels, not 3 (color) or 1 (gray). Export it with color or gray input." in message


def test_two_inputs_are_refused() -> None:
    two = Signature(
        "serving_default", (Tensor("a", (-1, 8, 8, 3), "float32"), Tensor("b", (-1, 4), "int32")), (SCORES,)
    )
    assert "it has 2 inputs, not one image" in refusal(two)
    assert "takes a: float32 ? x 8 x 8 x 3, b: int32 ? x 4" in refusal(two)


def test_no_input_is_refused() -> None:
    assert "it has 0 inputs" in refusal(Signature("serving_default", (), (SCORES,)))
    assert "takes nothing and returns" in refusal(Signature("serving_default", (), (SCORES,)))


def test_wrong_number_of_channels_is_refused() -> None:
    assert "its input has 4 channels, not 3 (color) or 1 (gray)" in refusal(taking((-1, 32, 32, 4)))


@pytest.mark.parametrize(
    ("shape", "axes", "batch", "image", "taken"),
    [
        ((-1, 3, 32, 24), "NCHW", 1, (1, 32, 24, 3), (1, 3, 32, 24)),
        ((1, 28, 30), "NHW", 1, (1, 28, 30, 1), (1, 28, 30)),
        ((-1, 28, 30), "NHW", 1, (1, 28, 30, 1), (1, 28, 30)),
        ((8, 28, 30), "NHW", 8, (1, 28, 30, 1), (1, 28, 30)),
        ((32, 24, 3), "HWC", 1, (1, 32, 24, 3), (32, 24, 3)),
        ((32, 24, 1), "HWC", 1, (1, 32, 24, 1), (32, 24, 1)),
        ((3, 32, 24), "CHW", 1, (1, 32, 24, 3), (3, 32, 24)),
        ((8, 32, 24, 3), "NHWC", 8, (1, 32, 24, 3), (1, 32, 24, 3)),
    ],
)
def test_other_axes_and_batches_become_one_image_with_channels_last(
    shape: tuple[int, ...], axes: str, batch: int, image: tuple[int, ...], taken: tuple[int, ...]
) -> None:
    signature = chosen(taking(shape, outputs=[SCORES if "N" in axes else Tensor("scores", (4,), "float32")]))
    assert signature.input.shape == image
    assert (signature.layout.axes, signature.layout.batch, signature.layout.shape) == (axes, batch, taken)


@pytest.mark.parametrize("shape", [(-1, 1, 96, 1), (-1, 96, 1, 3), (1, 1, 40), (-1, 40, 1)])
@pytest.mark.parametrize("size", [None, (96, 1), (1, 96)])
def test_input_one_pixel_wide_or_high_is_refused(shape: tuple[int, ...], size: Size | None) -> None:
    assert "one pixel wide or high, which looks like audio features" in refusal(taking(shape), size=size)


def test_unknown_number_of_channels_is_refused() -> None:
    assert "its input has an unknown number of channels" in refusal(taking((-1, 32, 32, -1)))


def test_input_of_unknown_rank_is_refused() -> None:
    assert "its input is of unknown shape" in refusal(taking(()))


def test_single_sigmoid_is_accepted() -> None:
    assert chosen(taking(outputs=[Tensor("yes", (-1, 1), "float32")])).output.name == "yes"


def test_one_number_for_each_image_is_accepted() -> None:
    assert chosen(taking(outputs=[Tensor("yes", (-1,), "float32")])).output.name == "yes"


@pytest.mark.parametrize(
    "output",
    [Tensor("mask", (-1, 32, 32, 2), "float32"), Tensor("label", (-1,), "int64"), Tensor("mean", (3,), "float32")],
)
def test_output_without_one_score_per_label_is_refused(output: Tensor) -> None:
    assert "none of its outputs is images x scores" in refusal(taking(outputs=[output]))


def test_output_with_a_pooled_pixel_or_unknown_shape_is_accepted() -> None:
    assert chosen(taking(outputs=[Tensor("scores", (-1, 1, 1, 4), "float32")])).output.shape == (-1, 1, 1, 4)
    assert chosen(taking(outputs=[Tensor("scores", (), "float32")])).output.shape == ()


def test_probabilities_are_chosen_among_the_outputs_of_an_estimator() -> None:
    estimator = [
        Tensor("class_ids", (-1, 1), "int64"),
        Tensor("classes", (-1, 1), "string"),
        Tensor("logits", (-1, 4), "float32"),
        Tensor("probabilities", (-1, 4), "float32"),
    ]
    assert chosen(taking(outputs=estimator)).output.name == "probabilities"


COLOR_AND_SHAPE = (Tensor("color", (-1, 4), "float32"), Tensor("shape", (-1, 6), "float32"))


def test_caller_must_choose_when_two_outputs_can_be_scores() -> None:
    for counts in ((), {5}):
        with pytest.raises(SignatureError) as raised:
            choose_signature([taking(outputs=COLOR_AND_SHAPE)], key=None, size=None, counts=counts)
        assert str(raised.value) == (
            "Several outputs can be the scores: color: float32 ? x 4, shape: float32 ? x 6. Choose one: "
            "--output color or shape."
        )


def test_output_is_chosen_by_the_number_of_labels_or_by_name() -> None:
    signatures = [taking(outputs=COLOR_AND_SHAPE)]
    assert choose_signature(signatures, key=None, size=None, counts={6}).output.name == "shape"
    assert choose_signature(signatures, key=None, size=None, counts={6}, output="color").output.name == "color"


def test_one_sigmoid_is_chosen_for_two_labels_if_no_output_has_two_values() -> None:
    outputs = (Tensor("features", (-1, 64), "float32"), Tensor("p", (-1, 1), "float32"))
    assert choose_signature([taking(outputs=outputs)], key=None, size=None, counts={2}).output.name == "p"


def test_unknown_output_is_refused_with_the_available_names() -> None:
    with pytest.raises(SignatureError) as raised:
        choose_signature([taking(outputs=COLOR_AND_SHAPE)], key=None, size=None, output="size")
    assert str(raised.value) == (
        "The model has no scores in an output 'size'. Available: color: float32 ? x 4, shape: float32 ? x 6."
    )


def test_object_detector_is_refused() -> None:
    outputs = (Tensor("boxes", (1, 100, 4), "float32"), Tensor("scores", (1, 100), "float32"))
    assert "it is probably an object detector" in refusal(taking(outputs=outputs))


@pytest.mark.parametrize("shape", [(-1, -1, -1, 3), (-1, 40, -1, 3), (-1, -1, 60, 3)])
def test_open_sides_are_set_by_the_given_size(shape: tuple[int, ...]) -> None:
    assert chosen(taking(shape), size=(40, 60)).input.shape == (1, 40, 60, 3)


def test_size_is_required_for_open_sides() -> None:
    with pytest.raises(SignatureError) as raised:
        chosen(taking((-1, -1, 60, 3)))
    assert str(raised.value) == (
        "The model has no fixed input size (? x ? x 60 x 3). Give one: --input-size HEIGHTxWIDTH."
    )


@pytest.mark.parametrize("shape", [(-1, 32, 24, 3), (-1, -1, 24, 3)])
def test_size_that_does_not_fit_the_model_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        SignatureError, match=r"^--input-size 24x32 does not fit the model, which accepts only \? x .* x 24 x 3\.$"
    ):
        chosen(taking(shape), size=(24, 32))
    assert chosen(taking(shape), size=(32, 24)).input.shape == (1, 32, 24, 3)
