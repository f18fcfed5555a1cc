from __future__ import annotations

import cv2
import pytest
from agents.models_on_disk import DIGIT_LABELS, DIGITS, photo_of_3

from agent.errors import IncompleteModelError, ModelError
from agent.model_file.golden import GoldenSample, GoldenSamples, read_golden
from agent.model_file.metadata import read_model_file
from converter.packing.metadata import pack_metadata

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


def test_golden_samples_are_read_with_their_images() -> None:
    content = packed(ONE_SAMPLE)
    assert read_golden(content) == GoldenSamples(0.1, (GoldenSample("golden/1.png", THREE, "3"),))
    assert read_model_file(content).packed_files == ("labels.txt", "edge_agent.json", "golden/1.png")


def test_read_golden_returns_none_without_golden_samples() -> None:
    assert read_golden(DIGITS) is None


def test_tolerance_allows_whole_samples_despite_rounding() -> None:
    samples = (GoldenSample("golden/1.png", b"", "3"),) * 100
    assert [GoldenSamples(percent / 100, samples).allowed for percent in range(101)] == list(range(101))


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        ([], "not a JSON object"),
        ("golden", "not a JSON object"),
        (0, "not a JSON object"),
        ({"samples": ONE_SAMPLE["samples"]}, "tolerance of the golden samples is not a number from 0 to 1"),
        (ONE_SAMPLE | {"tolerance": True}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": "0.1"}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": 1.5}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": -1}, "tolerance"),
        (ONE_SAMPLE | {"tolerance": float("nan")}, "tolerance"),
        ({"tolerance": 0}, "not a list of 1 to 100"),
        ({"tolerance": 0, "samples": []}, "not a list of 1 to 100"),
        ({"tolerance": 0, "samples": {"file": "golden/1.png"}}, "not a list of 1 to 100"),
        ({"tolerance": 0, "samples": [{"file": "golden/1.png", "label": "3"}] * 101}, "not a list of 1 to 100"),
        ({"tolerance": 0, "samples": ["golden/1.png"]}, "has no image file or no label"),
        ({"tolerance": 0, "samples": [{"file": "golden/1.png"}]}, "has no image file or no label"),
        ({"tolerance": 0, "samples": [{"file": "golden/1.png", "label": 3}]}, "has no image file or no label"),
        ({"tolerance": 0, "samples": [{"file": ["1"], "label": "3"}]}, "has no image file or no label"),
    ],
)
def test_malformed_golden_samples_are_refused_with_the_remedy(golden: object, words: str) -> None:
    with pytest.raises(ModelError, match=f"{words}.* Convert the model again: edge-convert convert --golden"):
        read_golden(packed(golden))


def test_missing_sample_is_reported_as_damage() -> None:
    with pytest.raises(IncompleteModelError, match=r"the image golden/1\.png of a golden sample is missing"):
        read_golden(packed(ONE_SAMPLE, {}))


def test_damaged_sample_is_reported_as_damage() -> None:
    content = bytearray(packed(ONE_SAMPLE))
    content[content.index(THREE) + 500] ^= 1
    with pytest.raises(IncompleteModelError, match="packed files cannot be read"):
        read_golden(bytes(content))


def test_sample_larger_than_4_mb_is_refused() -> None:
    with pytest.raises(ModelError, match=r"golden/1\.png is larger than 4 MB"):
        read_golden(packed(ONE_SAMPLE, {"golden/1.png": bytes((4 << 20) + 1)}))


def test_samples_larger_than_16_mb_in_total_are_refused() -> None:
    """Several samples name the same image, so a small file could fill the memory."""
    many = {"tolerance": 0, "samples": [{"file": "golden/1.png", "label": "3"}] * 5}
    with pytest.raises(ModelError, match="larger than 16 MB"):
        read_golden(packed(many, {"golden/1.png": bytes(4 << 20)}))
