from __future__ import annotations

import re
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.models_on_disk import DIGIT_LABELS, DIGITS, photo_of_3

from agent.errors import IncompleteModelError, ModelError
from agent.model_file.golden import GoldenSample, GoldenSamples, check_golden, read_golden
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.tflite import TFLiteClassifier
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.runtimes.classifier import Classifier

THREE: bytes = cv2.imencode(".png", photo_of_3().to_color("bgr").pixels)[1].tobytes()
ONE_SAMPLE = {"tolerance": 0.1, "samples": [{"file": "golden/1.png", "label": "3"}]}


def packed(golden: object, files: dict[str, bytes] | None = None) -> bytes:
    return pack_metadata(
        DIGITS,
        labels=DIGIT_LABELS,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version="1",
        additions={"golden": golden},
        files={"golden/1.png": THREE} if files is None else files,
    )


def golden(labels: Sequence[str], *, tolerance: float = 0.0) -> GoldenSamples:
    """The picture of a three once for each of `labels`."""
    samples = [GoldenSample(f"golden/{number}.png", THREE, label) for number, label in enumerate(labels)]
    return GoldenSamples(tolerance, tuple(samples))


@pytest.fixture(scope="module")
def digits() -> TFLiteClassifier:
    file = read_model_file(DIGITS)
    return TFLiteClassifier(file, file.settings, threads=1)


def test_golden_samples_are_read_with_their_images() -> None:
    content = packed(ONE_SAMPLE)
    assert read_golden(content) == GoldenSamples(0.1, (GoldenSample("golden/1.png", THREE, "3"),))
    assert read_model_file(content).packed_files == ("labels.txt", "edge_agent.json", "golden/1.png")


def test_a_model_without_golden_samples_has_none() -> None:
    assert read_golden(DIGITS) is None


def test_a_model_that_answers_as_the_file_says_passes(digits: TFLiteClassifier) -> None:
    assert check_golden(golden("333"), digits) == (3, 3)


def test_within_the_tolerance_a_model_passes(digits: TFLiteClassifier) -> None:
    assert check_golden(golden("3334", tolerance=0.25), digits) == (3, 4)


def test_beyond_the_tolerance_a_model_is_refused_with_three_examples(digits: TFLiteClassifier) -> None:
    with pytest.raises(ModelError) as refusal:
        check_golden(golden("3451233333", tolerance=0.1), digits)
    score = r"\(\d\.\d\d\)"
    assert re.fullmatch(
        "4 of 10 golden samples are answered otherwise than the file says, and 1 may be: "
        rf"golden/1\.png gave 3 {score} instead of 4, golden/2\.png gave 3 {score} instead of 5, "
        rf"golden/3\.png gave 3 {score} instead of 1\. Check labels, mean, std and color .* edge-convert convert .*\.",
        str(refusal.value),
    )


def test_one_of_one_that_disagrees_is_said_in_the_singular(digits: TFLiteClassifier) -> None:
    with pytest.raises(ModelError, match=r"1 of 1 golden samples is answered otherwise .*, and none may be"):
        check_golden(golden("4", tolerance=0.9), digits)


def test_a_tolerance_means_whole_samples_whatever_floats_make_of_it() -> None:
    assert [golden("3" * 100, tolerance=percent / 100).allowed for percent in range(101)] == list(range(101))


def test_labels_of_a_sidecar_that_do_not_fit_are_found_out() -> None:
    file = read_model_file(DIGITS)
    shifted = ModelSettings(labels=(*DIGIT_LABELS[1:], DIGIT_LABELS[0]))
    classifier = TFLiteClassifier(file, file.settings.overridden_by(shifted), threads=1)
    with pytest.raises(ModelError, match=r"gave 4 .* instead of 3"):
        check_golden(golden("3"), classifier)


@pytest.mark.parametrize("content", [THREE[:200], b"GIF89a", b""])
def test_a_sample_that_does_not_decode_is_refused(content: bytes, digits: TFLiteClassifier) -> None:
    with pytest.raises(ModelError, match=r"The golden sample golden/1\.png cannot be used: .*edge-convert"):
        check_golden(GoldenSamples(1.0, (GoldenSample("golden/1.png", content, "3"),)), digits)


def test_a_sample_of_too_many_pixels_is_refused_undecoded(digits: TFLiteClassifier) -> None:
    vast = cv2.imencode(".png", np.zeros((4097, 4096), np.uint8))[1].tobytes()
    with pytest.raises(ModelError, match="at most 16777216 pixels are allowed"):
        check_golden(GoldenSamples(1.0, (GoldenSample("golden/1.png", vast, "3"),)), digits)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "no JSON object"),
        ("golden", "no JSON object"),
        (0, "no JSON object"),
        ({"samples": ONE_SAMPLE["samples"]}, "tolerance of the golden samples is no number of 0 to 1"),
        (ONE_SAMPLE | {"tolerance": True}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": "0.1"}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": 1.5}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": -1}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": float("nan")}, "tolerance"),
        ({"tolerance": 0}, "no list of 1 to 100"),
        ({"tolerance": 0, "samples": []}, "no list of 1 to 100"),
        ({"tolerance": 0, "samples": {"file": "golden/1.png"}}, "no list of 1 to 100"),
        ({"tolerance": 0, "samples": [{"file": "golden/1.png", "label": "3"}] * 101}, "no list of 1 to 100"),
        ({"tolerance": 0, "samples": ["golden/1.png"]}, "does not name its file and its label"),
        ({"tolerance": 0, "samples": [{"file": "golden/1.png"}]}, "does not name its file and its label"),
        ({"tolerance": 0, "samples": [{"file": "golden/1.png", "label": 3}]}, "does not name its file and its label"),
        ({"tolerance": 0, "samples": [{"file": ["1"], "label": "3"}]}, "does not name its file and its label"),
    ],
)
def test_malformed_golden_samples_are_refused_with_what_to_do(said: object, words: str) -> None:
    with pytest.raises(ModelError, match=f"{words}.* Convert the model again: edge-convert convert --golden"):
        read_golden(packed(said))


def test_a_sample_that_lacks_is_damage() -> None:
    with pytest.raises(IncompleteModelError, match=r"it names golden/1\.png, which is missing at the end of the file"):
        read_golden(packed(ONE_SAMPLE, {}))


def test_a_damaged_sample_is_damage() -> None:
    content = bytearray(packed(ONE_SAMPLE))
    content[content.index(THREE) + 500] ^= 1
    with pytest.raises(IncompleteModelError, match="packed files cannot be read"):
        read_golden(bytes(content))


def test_a_sample_of_more_than_4_mb_is_refused() -> None:
    with pytest.raises(ModelError, match=r"golden/1\.png has more than 4 MB"):
        read_golden(packed(ONE_SAMPLE, {"golden/1.png": bytes((4 << 20) + 1)}))


def test_samples_of_more_than_16_mb_together_are_refused() -> None:
    """Here one image that many samples name: a small file that would fill the memory."""
    many = {"tolerance": 0, "samples": [{"file": "golden/1.png", "label": "3"}] * 5}
    with pytest.raises(ModelError, match="more than 16 MB"):
        read_golden(packed(many, {"golden/1.png": bytes(4 << 20)}))


def test_names_of_an_untrusted_file_are_harmless_to_show(digits: Classifier) -> None:
    named = GoldenSample("\x1b[31m\ud800" + "x" * 300, THREE, "\nrobin")
    with pytest.raises(ModelError) as refusal:
        check_golden(GoldenSamples(0.0, (named,)), digits)
    assert str(refusal.value).isprintable()
    assert f" [31m {'x' * 94} gave 3" in str(refusal.value)
    assert "instead of  robin" in str(refusal.value)
