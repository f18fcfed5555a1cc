"""Golden samples: which images are packed, and that the finished file must classify them correctly."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections import Counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.models_on_disk import DIGIT_LABELS, DIGITS, photo_of_3
from conversions import QUIET, contents, converted, finished_classifier, untracked, write_labels

from agent.errors import ModelError
from agent.image import decode, image_size
from agent.model_file.golden import read_golden
from agent.model_file.metadata import Tensor, read_model_file
from agent.model_file.settings import ModelSettings
from agent.models.trial import Trial
from agent.runtimes.classifier import Classifier
from agent.runtimes.golden import ask_golden
from converter.errors import ConversionError, ImagesError, UsageError
from converter.images.image_folder import list_images
from converter.packing.golden import check_packed, choose_golden
from converter.packing.metadata import pack_metadata
from converter.terminal import print_conversion

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from converter.conversion import Conversion

pytestmark = pytest.mark.filterwarnings(*QUIET)

COLORS = ("blue", "gray", "green", "red")


@pytest.fixture(scope="module")
def colors(small_saved_model: Path, color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    output = tmp_path_factory.mktemp("colors") / "colors.tflite"
    return converted(
        small_saved_model,
        output,
        "int8",
        "none",
        calibration=color_images,
        evaluation=color_images,
        golden=color_images,
    )


def test_each_file_contains_twenty_samples_evenly_over_the_classes(colors: Conversion) -> None:
    for content in contents(colors).values():
        golden = read_golden(content)
        assert golden is not None
        assert Counter(sample.label for sample in golden.samples) == dict.fromkeys(COLORS, 5)
        assert golden.tolerance == 0.1
        assert len(golden.samples) == 20
        assert ask_golden(golden, finished_classifier(content)).otherwise == ()


def test_agents_trial_classifies_the_golden_samples(colors: Conversion) -> None:
    for model in colors.models:
        assert Trial(threads=1).run(model.path, ModelSettings()).golden == 20
        shifted = ModelSettings(labels=(*COLORS[1:], COLORS[0]))
        with pytest.raises(ModelError, match=r"20 of 20 golden samples got a different label .*at most 2 allowed"):
            Trial(threads=1).run(model.path, shifted)


def test_samples_are_stored_uncompressed_after_the_labels(colors: Conversion) -> None:
    for content in contents(colors).values():
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
        names = [f"golden/{number:04}.png" for number in range(1, 21)]
        assert [entry.filename for entry in entries] == ["labels.txt", "edge_agent.json", *names]
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}


def test_labels_and_provenance_are_kept_with_golden_samples(colors: Conversion) -> None:
    for content in contents(colors).values():
        file = read_model_file(content)
        assert file.settings.labels == COLORS
        assert file.provenance is not None
        assert file.provenance["evaluation"]["model"]["top1"] == 1.0


def test_json_and_output_contain_the_number_of_samples(colors: Conversion, capsys: pytest.CaptureFixture[str]) -> None:
    assert colors.to_json()["golden"] == 20
    print_conversion(colors)
    assert "Each file contains 20 golden samples." in capsys.readouterr().out


def test_labels_come_from_the_golden_folder_without_other_sources(
    small_saved_model: Path, color_images: Path, tmp_path: Path
) -> None:
    conversion = converted(small_saved_model, tmp_path / "c.tflite", "none", golden=color_images)
    assert conversion.settings.labels == COLORS


def test_flat_folder_is_refused(small_saved_model: Path, color_images: Path, tmp_path: Path) -> None:
    flat = color_images / "red"
    with pytest.raises(UsageError) as refusal:
        converted(small_saved_model, tmp_path / "c.tflite", "none", golden=flat)
    assert str(refusal.value) == (
        f"--golden {flat} has no class folders, so the labels are unknown. Make one folder per class."
    )


def test_class_folder_without_a_label_is_refused_before_any_work(
    small_saved_model: Path, color_images: Path, tmp_path: Path
) -> None:
    golden = shutil.copytree(color_images, tmp_path / "golden")
    (golden / "gray").rename(golden / "graey")
    with pytest.raises(ImagesError, match="graey matches none of the 4 labels; the closest is 'gray'"):
        converted(small_saved_model, tmp_path / "c.tflite", "int8", calibration=color_images, golden=golden)


def test_golden_tolerance_without_samples_is_refused(small_saved_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--golden-tolerance needs golden samples"):
        converted(small_saved_model, tmp_path / "c.tflite", "none", golden_tolerance=0.2)


@pytest.fixture
def fragile(tmp_path: Path) -> Path:
    """A source that int8 ruins: one feature is a thousand times as large as those that distinguish the colors."""
    tf = pytest.importorskip("tensorflow")
    layers = tf.keras.layers
    features = layers.Dense(4, activation="relu", use_bias=False)
    scores = layers.Dense(3, activation="softmax", use_bias=False)
    model = tf.keras.Sequential([layers.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), features, scores])
    features.set_weights([np.hstack([np.full((3, 1), 1000), np.eye(3)])])
    scores.set_weights([20 * np.eye(4, 3, -1)])
    model.save(tmp_path / "fragile.keras")
    return tmp_path / "fragile.keras"


def test_finished_file_that_fails_its_samples_is_refused(fragile: Path, color_images: Path, tmp_path: Path) -> None:
    for name in ("blue", "green", "red"):
        shutil.copytree(color_images / name, tmp_path / "images" / name)
    labels = write_labels(tmp_path / "labels.txt", ("red", "green", "blue"))
    images = tmp_path / "images"
    conversion = converted(
        fragile, tmp_path / "c.tflite", "int8", "none", labels=labels, calibration=images, golden=images
    )
    int8, exact = conversion.models
    assert isinstance(int8.refusal, ConversionError)
    assert " of 20 golden samples got a different label than expected (at most 2 allowed): golden/0" in str(
        int8.refusal
    )
    assert "The source gets them all right, so every device would refuse this file." in str(int8.refusal)
    assert not int8.path.exists()
    assert exact.refusal is None
    assert exact.path.exists()


def three(label: str) -> bytes:
    """The digits model with one golden sample, a picture of a three with the label `label`."""
    return pack_metadata(
        DIGITS,
        labels=DIGIT_LABELS,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version="1",
        additions={"golden": {"tolerance": 0, "samples": [{"file": "golden/0001.png", "label": label}]}},
        files={"golden/0001.png": cv2.imencode(".png", photo_of_3().to_color("bgr").pixels)[1].tobytes()},
    )


def test_check_packed_refuses_a_file_that_fails_its_own_sample() -> None:
    check_packed(DIGITS, finished_classifier(DIGITS))
    check_packed(three("3"), finished_classifier(three("3")))
    with pytest.raises(ConversionError, match=r"golden/0001\.png gave 3 .* instead of 4\. The source gets"):
        check_packed(three("4"), finished_classifier(three("4")))


class BrightestChannel(Classifier):
    """A fake source that returns which of red, green and blue is strongest in an image."""

    def __init__(self, side: int) -> None:
        settings = ModelSettings(labels=("red", "green", "blue"), mean=(0.0,), std=(255.0,), score="probability")
        super().__init__([Tensor("i", (1, side, side, 3), "float32")], [Tensor("o", (1, 3), "float32")], settings)

    @property
    def ran_on(self) -> str:
        return "here"

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.asarray(tensor.astype(np.float32).mean(axis=(0, 1, 2)))


SOURCE = BrightestChannel(32)


def save(path: Path, channel: int, size: tuple[int, int] = (40, 40), noise: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).integers(0, noise + 1, (*size, 3), np.uint8)
    pixels[:, :, channel] += 100
    assert cv2.imwrite(str(path), pixels)


def test_images_that_the_source_gets_wrong_are_skipped_with_a_note(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"blue/{number}.png", 0)
        save(tmp_path / f"red/{number}.png", 2)
    save(tmp_path / "red/lost.png", 1)
    golden = choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)
    assert Counter(golden.labels) == {"blue": 3, "red": 3}
    assert list(golden.files) == [f"golden/{number:04}.png" for number in range(1, 7)]
    (note,) = golden.notes
    assert note == "Skipped golden samples that the source itself gets wrong (1): red/lost.png gave green."


def test_folder_is_refused_if_fewer_than_half_of_the_samples_are_right(tmp_path: Path) -> None:
    save(tmp_path / "blue/1.png", 0)
    save(tmp_path / "red/1.png", 1)
    save(tmp_path / "red/2.png", 1)
    with pytest.raises(ImagesError) as refusal:
        choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)
    assert str(refusal.value).startswith(
        f"The source classifies only 1 of 3 golden samples in {tmp_path} as their folders say (red/"
    )
    assert str(refusal.value).endswith(
        "Check the images and their folders, --mean, --std, --color and the order of the labels."
    )


def test_folder_is_accepted_if_half_of_the_samples_are_right(tmp_path: Path) -> None:
    save(tmp_path / "blue/1.png", 0)
    save(tmp_path / "red/1.png", 1)
    golden = choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)
    assert golden.labels == ("blue",)


def test_unreadable_images_are_replaced_by_others(tmp_path: Path) -> None:
    (tmp_path / "blue").mkdir()
    for number in range(30):
        (tmp_path / f"blue/{number:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    save(tmp_path / "blue/good.png", 0)
    golden = choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)
    assert golden.labels == ("blue",)
    assert "Skipped unreadable golden samples (30): blue/" in golden.notes[0]


def test_folder_without_readable_images_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue/1.png").write_bytes(b"II*\0")
    with pytest.raises(
        ImagesError,
        match=r"None of the images in .* can be read: blue/1\.png: The image format is not supported; JPEG,",
    ):
        choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)


@pytest.mark.parametrize(
    ("size", "packed"),
    [
        ((30, 40), (30, 40)),
        ((48, 64), (48, 64)),
        ((600, 800), (48, 64)),
        ((64, 640), (32, 320)),
        ((20, 640), (20, 640)),
    ],
)
def test_samples_are_at_most_twice_the_input_size_and_not_smaller_than_it(
    size: tuple[int, int], packed: tuple[int, int], tmp_path: Path
) -> None:
    save(tmp_path / "blue/1.png", 0, size)
    golden = choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)
    width, height = image_size(golden.files["golden/0001.png"])
    assert (height, width) == packed


def test_sample_with_a_small_png_keeps_every_pixel(tmp_path: Path) -> None:
    save(tmp_path / "blue/1.png", 0, noise=50)
    golden = choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked)
    original = decode((tmp_path / "blue/1.png").read_bytes())
    assert np.array_equal(decode(golden.files["golden/0001.png"]).pixels, original.pixels)


def test_sample_with_a_large_png_becomes_a_jpeg(tmp_path: Path) -> None:
    save(tmp_path / "blue/1.png", 0, (300, 300), noise=50)
    golden = choose_golden(list_images(tmp_path), BrightestChannel(224), tolerance=0.1, track=untracked)
    (content,) = golden.files.values()
    assert list(golden.files) == ["golden/0001.jpg"]
    assert content.startswith(b"\xff\xd8\xff")
    assert len(content) < (tmp_path / "blue/1.png").stat().st_size
    assert json.dumps(golden.to_json()) == (
        '{"tolerance": 0.1, "samples": [{"file": "golden/0001.jpg", "label": "blue"}]}'
    )


def test_chosen_samples_are_the_same_in_every_call(color_images: Path, tmp_path: Path) -> None:
    for name in ("blue", "green", "red"):
        shutil.copytree(color_images / name, tmp_path / name)
    chosen = [choose_golden(list_images(tmp_path), SOURCE, tolerance=0.1, track=untracked) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0].labels) == 20
