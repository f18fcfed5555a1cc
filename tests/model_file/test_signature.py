"""Which signature is an image classifier's, and what is said of those that are none."""

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


def test_the_batch_becomes_one_image() -> None:
    assert chosen(taking()).input == Tensor("image", (1, 32, 24, 3), "float32")
    assert chosen(taking()).output == SCORES


def test_a_signature_is_taken_by_its_name_even_beside_a_default() -> None:
    assert chosen(taking(), taking(key="other"), key="other").key == "other"


def test_serving_default_goes_before_others_that_fit() -> None:
    assert chosen(taking(key="a"), taking(), taking(key="z")).key == "serving_default"


def test_the_only_one_that_fits_goes_before_a_default_that_does_not() -> None:
    assert chosen(taking((-1, 10)), taking(key="images")).key == "images"


def test_of_several_that_fit_without_a_default_the_caller_must_choose() -> None:
    with pytest.raises(SignatureError) as raised:
        chosen(taking(key="day"), taking(key="night"), taking((-1, 10), key="text"))
    assert str(raised.value) == "Several signatures fit. Choose one: --signature day or night."


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(SignatureError) as raised:
        chosen(taking(key="day"), taking(key="night"), key="dusk")
    assert str(raised.value) == "The model has no signature 'dusk'. Available: day, night."


def test_a_model_without_signatures_is_refused_with_the_way_to_save_one() -> None:
    assert "has no signature" in refusal()
    assert "model.export" in refusal()


def test_when_none_fits_the_default_is_described() -> None:
    said = refusal(taking((-1, 10), key="a"), taking((-1, 7)))
    assert "its input is ? x 7, not images x height x width x channels" in said
    assert said.endswith("serving_default takes image: float32 ? x 7 and returns scores: float32 ? x 4.")


def test_an_oblong_input_takes_pictures_if_the_user_says_so() -> None:
    assert chosen(taking((-1, 100, 20, 3)), size=(100, 20)).input.shape == (1, 100, 20, 3)


def test_an_input_up_to_three_times_as_long_as_wide_needs_no_word() -> None:
    assert chosen(taking((-1, 30, 90, 1))).input.shape == (1, 30, 90, 1)
    assert "which looks like audio features" in refusal(taking((-1, 30, 91, 1)))


def test_text_is_no_image() -> None:
    assert "its input is text or encoded images" in refusal(taking((-1,), dtype="string"))


def test_two_inputs_are_refused() -> None:
    two = Signature(
        "serving_default", (Tensor("a", (-1, 8, 8, 3), "float32"), Tensor("b", (-1, 4), "int32")), (SCORES,)
    )
    assert "it has 2 inputs, not one image" in refusal(two)
    assert "takes a: float32 ? x 8 x 8 x 3, b: int32 ? x 4" in refusal(two)


def test_no_input_is_refused() -> None:
    assert "it has 0 inputs" in refusal(Signature("serving_default", (), (SCORES,)))
    assert "takes nothing and returns" in refusal(Signature("serving_default", (), (SCORES,)))


def test_channels_first_is_told_from_a_wrong_number_of_channels() -> None:
    assert "? x 3 x 32 x 32, channels first, which TensorFlow Lite does not support" in refusal(taking((-1, 3, 32, 32)))
    assert "its input has 4 channels, not 3 (color) or 1 (gray)" in refusal(taking((-1, 32, 32, 4)))


def test_an_open_number_of_channels_is_refused() -> None:
    assert "its input has an unknown number of channels" in refusal(taking((-1, 32, 32, -1)))


def test_an_input_of_no_known_rank_is_refused() -> None:
    assert "its input is of unknown shape" in refusal(taking(()))


def test_one_sigmoid_is_answered_with_the_remedy() -> None:
    said = refusal(taking(outputs=[Tensor("yes", (-1, 1), "float32")]))
    assert "it returns one score; end it in a softmax over two labels instead of one sigmoid" in said


@pytest.mark.parametrize(
    "output",
    [Tensor("mask", (-1, 32, 32, 2), "float32"), Tensor("label", (-1,), "int64"), Tensor("loss", (-1,), "float32")],
)
def test_an_output_without_one_score_a_label_is_refused(output: Tensor) -> None:
    assert "none of its outputs is images x scores" in refusal(taking(outputs=[output]))


def test_an_output_may_keep_the_pooled_pixel_or_state_no_shape() -> None:
    assert chosen(taking(outputs=[Tensor("scores", (-1, 1, 1, 4), "float32")])).output.shape == (-1, 1, 1, 4)
    assert chosen(taking(outputs=[Tensor("scores", (), "float32")])).output.shape == ()


def test_of_an_estimators_outputs_the_probabilities_are_taken() -> None:
    estimator = [
        Tensor("class_ids", (-1, 1), "int64"),
        Tensor("classes", (-1, 1), "string"),
        Tensor("logits", (-1, 4), "float32"),
        Tensor("probabilities", (-1, 4), "float32"),
    ]
    assert chosen(taking(outputs=estimator)).output.name == "probabilities"


def test_of_two_outputs_that_could_be_scores_none_is_guessed() -> None:
    said = refusal(taking(outputs=[Tensor("color", (-1, 4), "float32"), Tensor("shape", (-1, 6), "float32")]))
    assert "it has 2 outputs" in said
    assert "returns color: float32 ? x 4, shape: float32 ? x 6." in said


@pytest.mark.parametrize("shape", [(-1, -1, -1, 3), (-1, 40, -1, 3), (-1, -1, 60, 3)])
def test_open_sides_are_closed_by_the_given_size(shape: tuple[int, ...]) -> None:
    assert chosen(taking(shape), size=(40, 60)).input.shape == (1, 40, 60, 3)


def test_open_sides_without_a_size_are_asked_for() -> None:
    with pytest.raises(SignatureError) as raised:
        chosen(taking((-1, -1, 60, 3)))
    assert str(raised.value) == (
        "The model has no fixed input size (? x ? x 60 x 3). Give one: --input-size HEIGHTxWIDTH."
    )


@pytest.mark.parametrize("shape", [(-1, 32, 24, 3), (-1, -1, 24, 3)])
def test_a_size_that_the_model_does_not_take_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        SignatureError, match=r"^--input-size 24x32 does not fit the model, which accepts only \? x .* x 24 x 3\.$"
    ):
        chosen(taking(shape), size=(24, 32))
    assert chosen(taking(shape), size=(32, 24)).input.shape == (1, 32, 24, 3)
