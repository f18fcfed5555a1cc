from __future__ import annotations

import re
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.models_on_disk import DIGIT_LABELS, DIGITS, photo_of_3

from agent.errors import ModelError
from agent.model_file.golden import GoldenSample, GoldenSamples
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.golden import ask_golden, check_golden
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.runtimes.classifier import Classifier

THREE: bytes = cv2.imencode(".png", photo_of_3().to_color("bgr").pixels)[1].tobytes()


def golden(labels: Sequence[str], *, tolerance: float = 0.0) -> GoldenSamples:
    """The same picture of a three once for each of `labels`."""
    samples = [GoldenSample(f"golden/{number}.png", THREE, label) for number, label in enumerate(labels)]
    return GoldenSamples(tolerance, tuple(samples))


@pytest.fixture(scope="module")
def digits() -> Classifier:
    return opened(ModelSettings())


def opened(settings: ModelSettings) -> Classifier:
    file = read_model_file(DIGITS)
    (classifier,) = open_classifiers(file, file.settings.overridden_by(settings), workers=1, threads=1)
    return classifier


def test_check_accepts_a_model_that_gives_the_expected_labels(digits: Classifier) -> None:
    check_golden(golden("333"), digits)
    assert ask_golden(golden("333"), digits).otherwise == ()


def test_check_accepts_a_model_within_the_tolerance(digits: Classifier) -> None:
    check_golden(golden("3334", tolerance=0.25), digits)
    assert len(ask_golden(golden("3334", tolerance=0.25), digits).otherwise) == 1


def test_check_refuses_a_model_beyond_the_tolerance_with_three_examples(digits: Classifier) -> None:
    with pytest.raises(ModelError) as refusal:
        check_golden(golden("3451233333", tolerance=0.1), digits)
    score = r"\(\d\.\d\d\)"
    assert re.fullmatch(
        r"4 of 10 golden samples got a different label than expected \(at most 1 allowed\): "
        rf"golden/1\.png gave 3 {score} instead of 4, golden/2\.png gave 3 {score} instead of 5, "
        rf"golden/3\.png gave 3 {score} instead of 1\. Check labels, mean, std and color .* edge-convert convert .*\.",
        str(refusal.value),
    )


def test_check_refuses_a_single_wrong_sample(digits: Classifier) -> None:
    with pytest.raises(ModelError, match=r"1 of 1 golden samples got a different label .*at most 0 allowed"):
        check_golden(golden("4", tolerance=0.9), digits)


def test_check_refuses_a_sidecar_with_labels_in_another_order() -> None:
    shifted = ModelSettings(labels=(*DIGIT_LABELS[1:], DIGIT_LABELS[0]))
    with pytest.raises(ModelError, match=r"gave 4 .* instead of 3"):
        check_golden(golden("3"), opened(shifted))


@pytest.mark.parametrize("content", [THREE[:200], b"GIF89a", b""])
def test_check_refuses_a_sample_that_cannot_be_decoded(content: bytes, digits: Classifier) -> None:
    with pytest.raises(ModelError, match=r"The golden sample golden/1\.png cannot be used: .*edge-convert"):
        check_golden(GoldenSamples(1.0, (GoldenSample("golden/1.png", content, "3"),)), digits)


def test_check_refuses_a_sample_with_too_many_pixels(digits: Classifier) -> None:
    vast = cv2.imencode(".png", np.zeros((4097, 4096), np.uint8))[1].tobytes()
    with pytest.raises(ModelError, match="at most 16777216 pixels are allowed"):
        check_golden(GoldenSamples(1.0, (GoldenSample("golden/1.png", vast, "3"),)), digits)


def test_verdict_shows_names_of_an_untrusted_file_without_escape_sequences(digits: Classifier) -> None:
    named = GoldenSample("\x1b[31m\ud800" + "x" * 300, THREE, "\nrobin")
    with pytest.raises(ModelError) as refusal:
        check_golden(GoldenSamples(0.0, (named,)), digits)
    assert str(refusal.value).isprintable()
    assert f" [31m {'x' * 94} gave 3" in str(refusal.value)
    assert "instead of  robin" in str(refusal.value)
