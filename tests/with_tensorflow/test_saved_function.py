"""Kinds of SavedModels: each answers as TensorFlow alone does."""

from __future__ import annotations

import gc
import re
import weakref
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from agents.saved_models import save_function, write_saved_model, write_warmup_requests

from agent.errors import InputRefusedError, MemoryFullError, ModelError, TensorError
from agent.image import Image
from agent.model_file.model import read_model
from agent.model_file.settings import ModelSettings
from agent.runtimes.batch_sizes import BatchSizes
from agent.runtimes.model_input import encoded
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.saved_classifier import BatchLimits, SavedModelClassifier
from agent.runtimes.tensorflow import TensorFlowOptions, use_options

if TYPE_CHECKING:
    from pathlib import Path

PIXELS = np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8)
PICTURE = Image(PIXELS)
FEW = ModelSettings(labels=("red", "green", "blue"), mean=(127.5,), std=(127.5,), score="probability")


def opened(path: Path, settings: ModelSettings = FEW, **options: Any) -> SavedModelClassifier:
    (classifier,) = open_classifiers(read_model(path), settings, workers=1, threads=1, **options)
    assert isinstance(classifier, SavedModelClassifier)
    return classifier


def colors(_: Any, image: Any) -> Any:
    """A softmax of the mean of each channel; the last axis has the channels."""
    return tf.nn.softmax(tf.reduce_mean(tf.cast(image, tf.float32), axis=(1, 2)) / 50)


def softmax(values: Any) -> Any:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def of_picture(classifier: SavedModelClassifier, picture: Image = PICTURE) -> Any:
    return classifier.scores(picture)[0].probabilities


def normalized(pixels: Any = PIXELS) -> Any:
    return ((pixels - np.float32(127.5)) / np.float32(127.5)).astype(np.float32)


def test_float_input_gets_normalized_pixels(tmp_path: Path) -> None:
    classifier = opened(save_function(tmp_path / "3", colors, (None, 8, 12, 3), tf.float32))
    expected = softmax(normalized().mean(axis=(0, 1)) / 50)
    assert np.allclose(of_picture(classifier), expected, atol=1e-5)
    assert classifier.signature.input.dtype == "float32"
    assert np.allclose(classifier.scores_of_tensor(normalized())[0].probabilities, expected, atol=1e-5)
    assert classifier.ran_on == f"TensorFlow {tf.__version__} on CPU"
    assert classifier.accelerator == "cpu"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ModelSettings(labels=FEW.labels),
            "in a .yaml file with the name of the version's folder, next to that folder",
        ),
        (ModelSettings(mean=(0.0,), std=(1.0,)), "in the file assets.extra/labels.txt in the SavedModel."),
    ],
)
def test_settings_that_are_missing_have_a_place_in_the_drop_folder(
    tmp_path: Path, settings: ModelSettings, words: str
) -> None:
    path = save_function(tmp_path / "3", colors, (None, 8, 12, 3), tf.float32)
    with pytest.raises(ModelError, match=re.escape(words)):
        opened(path, settings)


@pytest.mark.parametrize(
    ("file", "written", "instead", "words"),
    [
        ("saved_model.pb", b"\x05serve", b"\x05nerve", "The SavedModel contains no graph for serving "),
        ("saved_model.pb", b"Softmax", b"Softmix", "The SavedModel cannot be loaded: Op type not registered 'Softmix'"),
    ],
)
def test_message_about_a_damaged_model_does_not_name_the_copy(
    tmp_path: Path, file: str, written: bytes, instead: bytes, words: str
) -> None:
    path = save_function(tmp_path / "copy", colors, (None, 8, 12, 3), tf.float32)
    content = (path / file).read_bytes()
    (path / file).write_bytes(content.replace(written, instead))
    with pytest.raises(ModelError, match=f"^{re.escape(words)}") as refused:
        opened(path)
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "of_pixels"),
    [
        ((None, 8, 12, 3), lambda image: image),
        ((1, 8, 12, 3), lambda image: image),
        ((4, 8, 12, 3), lambda image: image),
        ((None, 3, 8, 12), lambda image: tf.transpose(image, (0, 2, 3, 1))),
        ((8, 12, 3), lambda image: image[None]),
    ],
)
def test_uint8_input_of_any_layout_gets_the_pixels(tmp_path: Path, shape: Any, of_pixels: Any) -> None:
    def call(_: Any, image: Any) -> Any:
        return {"scores": colors(_, of_pixels(image)), "count": tf.shape(image)[:1]}

    classifier = opened(save_function(tmp_path / "3", call, shape, tf.uint8))
    assert np.allclose(of_picture(classifier), softmax(PIXELS.mean(axis=(0, 1)) / 50), atol=1e-5)
    assert classifier.signature.input.dtype == "uint8"
    assert {output.name for output in classifier.signature.outputs} == {"scores", "count"}


def test_gray_input_gets_gray_pixels(tmp_path: Path) -> None:
    def call(_: Any, image: Any) -> Any:
        mean = tf.reduce_mean(image, axis=(1, 2, 3))
        return tf.stack([mean, 1 - mean], axis=1)

    settings = ModelSettings(labels=("bright", "dark"), mean=(0.0,), std=(255.0,), score="probability")
    classifier = opened(save_function(tmp_path / "3", call, (None, 8, 12, 1), tf.float32), settings)
    expected = cv2.cvtColor(PIXELS, cv2.COLOR_RGB2GRAY).mean() / 255
    assert np.allclose(of_picture(classifier), [expected, 1 - expected], atol=1e-5)


def decoding(_: Any, contents: Any) -> Any:
    def one(content: Any) -> Any:
        image = tf.image.decode_image(content, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        return tf.reduce_mean(tf.cast(image, tf.float32), axis=(0, 1))

    return tf.nn.softmax(tf.map_fn(one, contents, fn_output_signature=tf.float32) / 50)


def test_model_that_decodes_images_gets_them_whole_as_png(tmp_path: Path) -> None:
    classifier = opened(
        save_function(tmp_path / "3", decoding, (None,), tf.string, name="jpeg"), ModelSettings(labels=FEW.labels)
    )
    assert classifier.smallest_side > 1 << 15
    assert classifier.signature.takes_files
    assert np.allclose(of_picture(classifier), softmax(PIXELS.mean(axis=(0, 1)) / 50), atol=1e-5)
    jpeg = PICTURE.to_jpeg(max_side=100)
    sent = classifier.scores_of_tensor(np.array(jpeg, object))[0].probabilities
    assert np.allclose(sent, tf.saved_model.load(str(tmp_path / "3")).serve(jpeg=[jpeg])["scores"][0], atol=1e-5)
    assert not np.allclose(sent, of_picture(classifier), atol=1e-6)  # the JPEG was passed on as it is
    with pytest.raises(TensorError, match="Send another image"):
        classifier.scores_of_tensor(np.array(jpeg[:30] + b"x", object))
    with pytest.raises(InputRefusedError):
        classifier.compute([encoded(b"no image")])


def test_signature_of_strings_without_a_decoder_is_refused(tmp_path: Path) -> None:
    def call(_: Any, texts: Any) -> Any:
        return tf.one_hot(tf.strings.length(texts) % 3, 3)

    with pytest.raises(ModelError, match="its input is a string"):
        opened(save_function(tmp_path / "3", call, (None,), tf.string))


def test_model_of_tensorflow_1_with_text_as_classes_serves_its_probabilities(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.compat.v1.placeholder(tf.float32, (None, 8, 12, 3))
        weight = tf.compat.v1.get_variable("w", initializer=0.02)
        logits = tf.reduce_mean(image, axis=(1, 2)) * weight
        outputs = {
            "classes": tf.gather(tf.constant(["red", "green", "blue"]), tf.argmax(logits, axis=1)),
            "class_ids": tf.argmax(logits, axis=1)[:, None],
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
        }
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "3"), {"image": image}, outputs)
    settings = ModelSettings(labels=FEW.labels, mean=(0.0,), std=(1.0,))
    classifier = opened(tmp_path / "3", settings, batches=BatchLimits(2))
    assert classifier.output.name == "probabilities"
    assert np.allclose(of_picture(classifier), softmax(PIXELS.mean(axis=(0, 1)) * 0.02), atol=1e-5)
    served = classifier.outputs()
    assert next(iter(served)) == "probabilities"
    assert served["class_ids"].tolist() == [int(PIXELS.mean(axis=(0, 1)).argmax())]


def test_row_of_a_batch_has_what_the_instance_gets_alone(tmp_path: Path) -> None:
    def call(_: Any, image: Any) -> Any:
        return {"scores": colors(_, image), "mean": tf.reduce_mean(image, axis=(1, 2, 3)), "version": tf.constant(7)}

    classifier = opened(save_function(tmp_path / "3", call, (None, 8, 12, 3), tf.uint8))
    others = [np.full_like(PIXELS, value) for value in (0, 100, 255)]
    tensors = [classifier.tensor(Image(each)) for each in (PIXELS, *others)]
    alone = [classifier.compute([tensor])[0] for tensor in tensors]
    for row, own in zip(classifier.compute(tensors), alone, strict=True):
        for values, same in zip(row, own, strict=True):
            assert np.array_equal(values, same)
    assert len({row[classifier.output_index].tobytes() for row in alone}) == 2  # the even ones are alike
    outputs = classifier.as_served(alone[0].__getitem__)
    assert outputs["version"] == 7
    assert outputs["mean"].shape == ()


def test_output_whose_size_depends_on_the_image_is_not_served(tmp_path: Path) -> None:
    def call(_: Any, image: Any) -> Any:
        return {"scores": colors(_, image), "found": tf.where(image[0, :, :, 0] > 0)[:, 0]}

    classifier = opened(save_function(tmp_path / "3", call, (None, 8, 12, 3), tf.uint8))
    assert [output.name for output in classifier.signature.outputs] == ["scores"]
    classifier.scores_of_tensor(PIXELS)
    assert list(classifier.outputs()) == ["scores"]


def test_model_that_nothing_uses_is_freed_at_once(tmp_path: Path) -> None:
    """Also if no collection of garbage is due: its variables may take most of the memory."""
    classifier = opened(save_function(tmp_path / "3", colors, (None, 8, 12, 3), tf.float32))
    graph = weakref.ref(classifier._shared.compute._call.graph)  # type: ignore[attr-defined]  # of the concrete function
    gc.disable()
    try:
        del classifier
        assert graph() is None
    finally:
        gc.enable()


def test_output_with_an_unexpected_size_is_refused(tmp_path: Path) -> None:
    """As large for a black image as for noise, but not for a light one."""

    def call(_: Any, image: Any) -> Any:
        light = tf.cast(tf.reduce_min(image) > 100, tf.int32)
        return {"scores": colors(_, image), "found": tf.zeros([1, 2 + light])}

    classifier = opened(save_function(tmp_path / "3", call, (None, 8, 12, 3), tf.uint8))
    classifier.scores(Image(np.full((8, 12, 3), 200, np.uint8)))
    with pytest.raises(TensorError, match="The output found has 3 values for this image, not 2"):
        classifier.outputs()


def test_model_that_mixes_the_images_of_a_batch_computes_one_at_a_time(tmp_path: Path) -> None:
    def call(_: Any, image: Any) -> Any:
        return colors(_, image - tf.reduce_mean(image, axis=0, keepdims=True) * 0.5)

    classifier = opened(
        save_function(tmp_path / "3", call, (None, 8, 12, 3), tf.float32), batches=BatchLimits(4, is_forced=True)
    )
    classifier.warm_up()
    assert classifier.batch_sizes is None
    assert np.allclose(of_picture(classifier), softmax(normalized().mean(axis=(0, 1)) / 100), atol=1e-5)


def test_forced_batches_have_powers_of_two_up_to_the_limit(tmp_path: Path) -> None:
    path = save_function(tmp_path / "3", colors, (None, 8, 12, 3), tf.float32)
    classifier = opened(path, batches=BatchLimits(5, is_forced=True))
    classifier.warm_up()
    assert isinstance(classifier.batch_sizes, BatchSizes)
    assert list(classifier.batch_sizes.ms_per_image) == [1, 2, 4]
    assert classifier.accelerator_reason is not None
    assert classifier.accelerator_reason.startswith("Batches of up to 4 images; time per image by batch size: 1: ")
    without = opened(path)
    without.warm_up()
    assert without.batch_sizes is None
    assert without.accelerator_reason is None


def test_batch_that_the_memory_is_too_small_for_limits_the_sizes(tmp_path: Path) -> None:
    def call(_: Any, image: Any) -> Any:
        """More than two images need 4 TB: a real failure of the allocator."""
        rows = tf.cast(tf.shape(image)[0] > 2, tf.int64) * (1 << 40)
        return colors(_, image) + tf.reduce_sum(tf.zeros(rows[None]))

    classifier = opened(
        save_function(tmp_path / "3", call, (None, 8, 12, 3), tf.float32), batches=BatchLimits(8, is_forced=True)
    )
    classifier.warm_up()
    assert classifier.batch_sizes is not None
    assert list(classifier.batch_sizes.ms_per_image) == [1, 2]
    with pytest.raises(MemoryFullError, match="memory of TensorFlow's device is currently too small") as caught:
        classifier.compute([classifier.tensor(PICTURE)] * 4)
    assert caught.value.retry_after_s == 1


def test_warm_up_requests_run_when_the_model_warms_up(tmp_path: Path) -> None:
    path = write_saved_model(tmp_path / "3")
    image = np.zeros((3, 16, 16, 3), np.float32)
    write_warmup_requests(path, [("", {"image": image})])
    model = read_model(path)
    open_classifiers(model, model.settings, workers=1, threads=1)[0].warm_up()
    for request, sentence in (
        (("other", {"image": image}), "A warm-up request calls the signature other"),
        (("", {"picture": image}), "A warm-up request fails: "),
    ):
        write_warmup_requests(path, [request])
        with pytest.raises(ModelError, match=sentence):
            open_classifiers(model, model.settings, workers=1, threads=1)[0].warm_up()


def test_options_without_effect_are_said(tmp_path: Path) -> None:
    path = save_function(tmp_path / "3", colors, (None, 8, 12, 3), tf.float32)
    options = TensorFlowOptions(memory_limit_mb=100, xla=True, float16=True)
    classifier = opened(path, tensorflow=options)
    assert classifier.accelerator_reason == (
        "memory_limit_mb has no effect without a GPU. float16 has no effect without a GPU."
    )
    assert np.allclose(of_picture(classifier), softmax(normalized().mean(axis=(0, 1)) / 50), atol=1e-5)
    use_options(TensorFlowOptions())


def test_model_that_xla_cannot_compile_is_served_without(tmp_path: Path) -> None:
    options = TensorFlowOptions(xla=True)
    path = save_function(tmp_path / "3", decoding, (None,), tf.string, name="jpeg")
    classifier = opened(path, ModelSettings(labels=FEW.labels), tensorflow=options)
    assert classifier.accelerator_reason is not None
    assert classifier.accelerator_reason.startswith("XLA has no effect: it cannot compile the model (")
    assert np.allclose(of_picture(classifier), softmax(PIXELS.mean(axis=(0, 1)) / 50), atol=1e-5)


@pytest.mark.assets
def test_published_model_answers_as_tensorflow_alone(assets: Path) -> None:
    path = assets / "savedmodels/vww_96_savedmodel"
    settings = ModelSettings(labels=("none", "person"), mean=(0.0,), std=(255.0,), score="probability")
    classifier = opened(path, settings)
    tensors = [np.random.default_rng(seed).random((96, 96, 3), np.float32) for seed in range(3)]
    call = tf.saved_model.load(str(path)).signatures["serving_default"]
    expected = call(input_1=tf.constant(np.stack(tensors)))["output_0"].numpy()
    rows = classifier.compute([classifier.tensor_of(each) for each in tensors])
    assert np.allclose(np.concatenate([row[0] for row in rows]), expected, atol=1e-5)
    assert np.allclose(classifier.scores_of_tensor(tensors[1])[0].probabilities, expected[1], atol=1e-5)
