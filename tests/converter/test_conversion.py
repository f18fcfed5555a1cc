"""Conversion of published models and our own: answers and metadata of the finished files."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import (
    EXACT,
    QUIET,
    SCHEMES,
    TOLERANCE,
    contents,
    converted,
    finished_classifier,
    largest_difference,
    names,
    readable_images,
    scores,
    source_classifier,
    write_labels,
)

from agent.errors import ModelError
from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.models.trial import Trial
from agent.runtimes.interpreter import operator_name
from agent.runtimes.tflite import TFLiteClassifier
from converter.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from converter.conversion import Conversion
    from converter.quantization import Scheme

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(*QUIET)]

COLORS = ("blue", "gray", "green", "red")
VWW = ("non_person", "person")
SWIPES = ("one", "two", "three", "four", "five")
TEXTS = {
    "name": "farben",
    "version": "2026-03",
    "description": "Which of four colors, größer als ein Wort",
    "author": "Ada",
    "license": "Apache-2.0",
}


@pytest.fixture(scope="module")
def colors(small_saved_model: Path, color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """Converted by every scheme and evaluated, with all metadata texts and resize crop."""
    folder = tmp_path_factory.mktemp("colors")
    return converted(
        small_saved_model,
        folder / "colors.tflite",
        *SCHEMES,
        calibration=color_images,
        evaluation=color_images,
        **TEXTS,
        resize="crop",
    )


def of_scheme(conversion: Conversion, scheme: Scheme) -> bytes:
    return contents(conversion)[scheme]


@pytest.mark.assets
def test_float_vww_model_gives_the_scores_of_the_published_file(assets: Path, tmp_path: Path) -> None:
    published = assets / "models/mlperf_vww_96_float"
    converted(
        assets / "savedmodels/vww_96_savedmodel", tmp_path / "vww.tflite", "none", labels=published / "labels.txt"
    )
    settings = ModelSettings(labels=VWW, mean=(0.0,), std=(255.0,), score="probability")
    theirs = TFLiteClassifier(read_model_file((published / "vww_96_float.tflite").read_bytes()), settings, threads=1)
    photos = readable_images(assets / "photos").values()
    assert len(photos) >= 20
    ours = finished_classifier((tmp_path / "vww.tflite").read_bytes())
    assert ours.labels == VWW
    assert largest_difference(scores(ours, photos), scores(theirs, photos)) < 5e-4


@pytest.mark.assets
def test_int8_vww_model_answers_like_its_source_and_names_unreadable_images(assets: Path, tmp_path: Path) -> None:
    source = assets / "savedmodels/vww_96_savedmodel"
    labels = assets / "models/mlperf_vww_96_float/labels.txt"
    conversion = converted(source, tmp_path / "vww.tflite", "int8", labels=labels, calibration=assets / "photos")
    photos = readable_images(assets / "photos").values()
    exact = scores(source_classifier(source, VWW), photos)
    quantized = scores(finished_classifier(of_scheme(conversion, "int8")), photos)
    sure = exact.max(axis=1) > 0.7
    assert sure.sum() >= 15
    assert np.array_equal(exact[sure].argmax(axis=1), quantized[sure].argmax(axis=1))
    assert largest_difference(exact, quantized) < 0.06
    unreadable, few = conversion.notes
    assert "bad_truncated.jpg: The image is damaged" in unreadable
    assert few.startswith(f"Only {len(photos)} calibration images")


@pytest.mark.assets
def test_keras_2_model_answers_like_its_source_when_weights_or_layers_are_rounded(assets: Path, tmp_path: Path) -> None:
    source = assets / "savedmodels/arm_openmv_savedmodel/model"
    schemes: tuple[Scheme, ...] = ("int8-float", "float16", "dynamic")  # the others: test_keras_applications.py
    conversion = converted(
        source,
        tmp_path / "swipes.tflite",
        *schemes,
        std=(1.0,),
        labels=write_labels(tmp_path / "swipes.txt", SWIPES),
        calibration=assets / "photos",
    )
    photos = readable_images(assets / "photos").values()
    exact = scores(source_classifier(source, SWIPES, std=(1.0,), color="gray"), photos)
    files = contents(conversion)
    assert tuple(files) == schemes
    for scheme, content in files.items():
        classifier = finished_classifier(content)
        assert classifier.input.shape == (1, 160, 120, 1)
        assert largest_difference(scores(classifier, photos), exact) < TOLERANCE[scheme], scheme


@pytest.mark.assets
def test_keras_2_h5_file_converted_to_int8_answers_like_its_source(assets: Path, tmp_path: Path) -> None:
    source = assets / "h5/vww_96.h5"
    labels = assets / "models/mlperf_vww_96_float/labels.txt"
    conversion = converted(source, tmp_path / "vww.tflite", "int8", labels=labels, calibration=assets / "photos")
    photos = readable_images(assets / "photos").values()
    exact = scores(source_classifier(source, VWW), photos)
    assert largest_difference(scores(finished_classifier(of_scheme(conversion, "int8")), photos), exact) < 0.06
    assert conversion.function.trained.kind == "Keras .h5 file"


@pytest.mark.assets
def test_audio_model_is_refused_with_its_input_shape(assets: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "words.txt", (str(n) for n in range(12)))
    with pytest.raises(ModelError, match="not an image classifier: its input is 49 x 10") as refusal:
        converted(assets / "savedmodels/kws_savedmodel_audio", tmp_path / "kws.tflite", "none", labels=labels)
    assert "? x 49 x 10 x 1" in str(refusal.value)
    assert not (tmp_path / "kws.tflite").exists()


def test_every_scheme_answers_like_the_source(colors: Conversion, small_saved_model: Path, color_images: Path) -> None:
    images = readable_images(color_images).values()
    exact = scores(source_classifier(small_saved_model, COLORS, resize="crop"), images)
    files = contents(colors)
    assert tuple(files) == SCHEMES
    for scheme, content in files.items():
        answers = scores(finished_classifier(content), images)
        assert largest_difference(answers, exact) < TOLERANCE[scheme], scheme
        assert np.array_equal(answers.argmax(axis=1), exact.argmax(axis=1)), scheme


def test_files_of_several_schemes_are_named_after_the_scheme(colors: Conversion) -> None:
    assert [model.path.name for model in colors.models] == [f"colors-{scheme}.tflite" for scheme in SCHEMES]


def test_input_and_output_types_match_the_scheme(colors: Conversion) -> None:
    types = {}
    for scheme, content in contents(colors).items():
        file = read_model_file(content)
        types[scheme] = (file.inputs[0].dtype, file.outputs[0].dtype)
    assert types.pop("int8") == ("uint8", "uint8")
    assert set(types.values()) == {("float32", "float32")}


def test_names_of_input_and_output_are_those_of_the_saved_model_in_every_scheme(colors: Conversion) -> None:
    files = contents(colors)
    assert len(files) == len(SCHEMES)
    assert {names(content) for content in files.values()} == {("image", "output_0")}


def test_unzip_lists_and_prints_the_labels(colors: Conversion) -> None:
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed: apt install unzip")
    for model in colors.models:
        listed = subprocess.run(["unzip", "-Z1", model.path], capture_output=True, check=False)
        assert listed.stdout.split() == [b"labels.txt", b"edge_agent.json"]
        printed = subprocess.run(["unzip", "-p", model.path, "labels.txt"], capture_output=True, check=False)
        assert printed.stdout.decode().splitlines() == list(COLORS)
        with zipfile.ZipFile(model.path) as archive:
            assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_file_contains_name_version_description_author_and_license(colors: Conversion) -> None:
    for content in contents(colors).values():
        file = read_model_file(content)
        stated = {key: getattr(file, key) for key in TEXTS}
        assert stated == TEXTS


def test_provenance_describes_source_and_conversion(colors: Conversion) -> None:
    for scheme, content in contents(colors).items():
        provenance: dict[str, Any] = read_model_file(content).provenance or {}
        int8 = scheme.startswith("int8")
        assert provenance["source"] == {
            "name": "colors",
            "sha256": colors.function.trained.sha256,
            "kind": colors.function.trained.kind,
            "signature": colors.function.key,
            "output": colors.function.output.name,
        }
        assert provenance["scheme"] == scheme
        assert provenance["calibration_images"] == (80 if int8 else 0)
        assert provenance["fed"] == {"mean": [0.0], "std": [255.0], "color": "rgb"}
        assert provenance["tensorflow"].startswith("2.")
        assert provenance["converter"].startswith("edge-agent ")
        assert provenance["kept_float"] == []
        assert provenance["evaluation"]["images"] == 80
        assert provenance["evaluation"]["source"]["top1"] == 1.0
        assert provenance["evaluation"]["model"]["top1"] == 1.0


def test_provenance_without_evaluation_contains_none(small_saved_model: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    conversion = converted(small_saved_model, tmp_path / "colors.tflite", "none", labels=labels)
    provenance = read_model_file(of_scheme(conversion, "none")).provenance or {}
    assert provenance["evaluation"] is None
    assert conversion.notes == ()


def test_conversion_json_describes_the_written_files(colors: Conversion) -> None:
    document = colors.to_json()
    assert document["labels"] == list(COLORS)
    assert document["source"]["sha256"] == colors.function.trained.sha256
    for model, entry in zip(colors.models, document["models"], strict=True):
        assert entry["written"] is True
        assert entry["refusal"] is None
        assert entry["bytes"] == model.path.stat().st_size == entry["evaluation"]["models"][-1]["bytes"]


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_resize_is_packed_and_used_by_the_agent(small_saved_model: Path, tmp_path: Path, resize: str) -> None:
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    conversion = converted(small_saved_model, tmp_path / "colors.tflite", "none", labels=labels, resize=resize)
    content = of_scheme(conversion, "none")
    assert read_model_file(content).settings.resize == resize
    # Green in the middle, red on both sides: a crop contains only green.
    pixels = np.full((32, 160, 3), (190, 50, 50), np.uint8)
    pixels[:, 64:96] = (50, 180, 60)
    answers = scores(finished_classifier(content), [Image(pixels)])
    exact = scores(source_classifier(small_saved_model, COLORS, resize=resize), [Image(pixels)])
    stretched = scores(source_classifier(small_saved_model, COLORS), [Image(pixels)])
    assert largest_difference(answers, exact) < EXACT
    assert largest_difference(answers, stretched) > 0.05


def test_resize_is_not_packed_if_it_is_stretch(small_saved_model: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    conversion = converted(small_saved_model, tmp_path / "colors.tflite", "none", labels=labels)
    assert read_model_file(of_scheme(conversion, "none")).settings.resize is None


def test_finished_file_passes_the_agents_trial_and_answers_like_the_source(
    colors: Conversion, small_saved_model: Path, color_images: Path
) -> None:
    images = readable_images(color_images).values()
    exact = scores(source_classifier(small_saved_model, COLORS, resize="crop"), images)
    for model in colors.models:
        assert Trial(threads=1).run(model.path, ModelSettings()).invoke_ms > 0
        classifier = finished_classifier(model.path.read_bytes())
        assert classifier.labels == COLORS
        answers = scores(classifier, images)
        assert np.array_equal(answers.argmax(axis=1), exact.argmax(axis=1)), model.scheme


def test_existing_file_is_replaced_only_with_force(small_saved_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "colors.tflite"
    output.write_bytes(b"earlier content")
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    with pytest.raises(UsageError, match=r"already exists\. Use --force to replace it"):
        converted(small_saved_model, output, "none", labels=labels)
    assert output.read_bytes() == b"earlier content"
    converted(small_saved_model, output, "none", labels=labels, force=True)
    assert finished_classifier(output.read_bytes()).labels == COLORS


def save_function(path: Path, call: Callable[[Any], Any], **held: Any) -> None:
    """Saves a SavedModel that takes 16 x 16 x 3 images; `held` are the objects that `call` uses."""
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    module.held = held
    module.call = tf.function(call, input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32)])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.call})


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")

    def odd(image: Any) -> Any:
        return tf.nn.softmax(tf.math.erfinv(tf.reduce_mean(image, [1, 2]) * 0.5))

    save_function(tmp_path / "odd", odd)
    labels = write_labels(tmp_path / "odd.txt", COLORS[:3])
    (model,) = converted(tmp_path / "odd", tmp_path / "odd.tflite", "none", labels=labels).models
    assert isinstance(model.refusal, ConversionError)
    assert str(model.refusal).startswith("The model uses operators that TensorFlow Lite does not support: Erfinv.")
    assert "\n" not in str(model.refusal)
    assert not (tmp_path / "odd.tflite").exists()


def test_scheme_that_the_target_cannot_load_is_refused_and_others_are_written(
    color_images: Path, tmp_path: Path
) -> None:
    tf = pytest.importorskip("tensorflow")
    layers = tf.keras.layers
    wide = [layers.GlobalAveragePooling2D(), layers.Dense(1024), layers.Dense(4, activation="softmax")]
    source = tmp_path / "wide.keras"
    tf.keras.Sequential([layers.Input((16, 16, 3)), *wide]).save(source)
    conversion = converted(
        source, tmp_path / "w.tflite", "dynamic", "float16", calibration=color_images, target="tflite-runtime"
    )
    dynamic, float16 = conversion.models
    assert "FULLY_CONNECTED" in str(dynamic.refusal)
    assert "version 12" in str(dynamic.refusal)
    assert not dynamic.path.exists()
    assert float16.refusal is None
    assert finished_classifier(float16.path.read_bytes()).labels == COLORS


def test_hash_table_of_label_names_is_not_converted(tmp_path: Path) -> None:
    """An Estimator exports such a table: it gives the label of the best answer, which a TFLite file does not need."""
    tf = pytest.importorskip("tensorflow")
    weights = tf.Variable(np.eye(3, 4, dtype=np.float32))
    named = tf.lookup.KeyValueTensorInitializer(tf.range(4, dtype=tf.int64), list(COLORS))
    words = tf.lookup.StaticHashTable(named, "?")

    def with_label(image: Any) -> Any:
        answer = tf.nn.softmax(tf.reduce_mean(image, [1, 2]) @ weights)
        return {"classes": words.lookup(tf.argmax(answer, -1)), "scores": answer}

    save_function(tmp_path / "with_label", with_label, weights=weights, words=words)
    labels = write_labels(tmp_path / "colors.txt", COLORS)
    conversion = converted(tmp_path / "with_label", tmp_path / "with_label.tflite", "none", labels=labels)
    blue = Image(np.full((16, 16, 3), (0, 0, 255), np.uint8))
    answers = scores(finished_classifier(of_scheme(conversion, "none")), [blue])
    assert answers.argmax() == 2
    names = {operator_name(operator) for operator in read_model_file(of_scheme(conversion, "none")).operators}
    assert not {name for name in names if name.startswith("HASHTABLE")}
