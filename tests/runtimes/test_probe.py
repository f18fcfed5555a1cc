from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from agents.tiny_models import DIV, MAXIMUM, MINIMUM, MUL, RELU6, TANH, TinyModel
from hypothesis import example, given, settings, strategies as st
from runtimes.score_reference import reference
from runtimes.test_tflite import PUBLISHED, published

from agent.errors import NotFiniteError
from agent.image import Image, decode
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings, read_sidecars
from agent.runtimes.interpreter import open_interpreter
from agent.runtimes.probe import probe, probe_images
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.score_kind import SeenScores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from agent.runtimes.classifier import Classifier

SIDE = 8
LABELS = tuple("abcdefghijkl")


def opened(content: bytes, **given: object) -> Classifier:
    file = read_model_file(content)
    count = max(file.outputs[0].shape)
    own = ModelSettings(labels=LABELS[:count], mean=(0.0,), std=(255.0,))
    wanted = file.settings.overridden_by(own).overridden_by(ModelSettings(**given))  # type: ignore[arg-type]
    (classifier,) = open_classifiers(file, wanted, workers=1, threads=1)
    return classifier


def mean_of_softmaxes(model: TinyModel, features: int, count: int) -> int:
    one, other = (model.softmax(model.dense(features, count)) for _ in range(2))
    return model.scaled(model.added(one, other), 0.5)


def clipped_softmax(model: TinyModel, features: int, count: int) -> int:
    scores = model.softmax(model.dense(features, count))
    return model.operator(MINIMUM, [scores, model.constant([0.999])], (1, count))


def floored_softmax(model: TinyModel, features: int, count: int) -> int:
    scores = model.softmax(model.dense(features, count))
    return model.operator(MAXIMUM, [scores, model.constant([1e-4])], (1, count))


def reordered_softmax(model: TinyModel, features: int, count: int) -> int:
    return model.picked(model.softmax(model.dense(features, count)), range(count - 1, -1, -1))


def cut_softmax(model: TinyModel, features: int, count: int) -> int:
    return model.picked(model.softmax(model.dense(features, count + 1)), range(1, count + 1))


def joined_sigmoids(model: TinyModel, features: int, count: int) -> int:
    return model.joined([model.sigmoid(model.dense(features, 1)) for _ in range(count)])


def hard_sigmoid(model: TinyModel, features: int, count: int) -> int:
    shifted = model.added(model.dense(features, count), model.constant([[3.0] * count]))
    return model.scaled(model.operator(RELU6, [shifted], (1, count)), 1 / 6)


def percent(model: TinyModel, features: int, count: int) -> int:
    return model.scaled(model.softmax(model.dense(features, count)), 100)


def logits(model: TinyModel, features: int, count: int) -> int:
    return model.dense(features, count, spread=5)


def tanh(model: TinyModel, features: int, count: int) -> int:
    return model.operator(TANH, [model.dense(features, count)], (1, count))


HEADS: dict[Callable[[TinyModel, int, int], int], str] = {
    mean_of_softmaxes: "distribution",
    clipped_softmax: "distribution",
    floored_softmax: "distribution",
    reordered_softmax: "distribution",
    cut_softmax: "independent",
    joined_sigmoids: "independent",
    hard_sigmoid: "independent",
    percent: "percent",
    logits: "logits",
    tanh: "logits",
}
QUANTIZED = {"distribution": (1 / 256, -128), "independent": (1 / 255, -128), "percent": (0.39, -128)}


def built(head: Callable[[TinyModel, int, int], int], count: int, seed: int, form: str = "float") -> bytes:
    """`form`: float, int8, or float dequantized from int8."""
    model = TinyModel(seed)
    features = model.pooled(model.image(1, SIDE, SIDE, 3), (1, 2), (1, 3))
    scores = head(model, features, count)
    if form != "float":
        scale, zero_point = QUANTIZED.get(HEADS[head], (0.25, 0))
        scores = model.quantized(scores, "int8", scale, zero_point)
    return model.finish(model.dequantized(scores) if form == "dequantized" else scores)


def raw_outputs(content: bytes, image: Image) -> npt.NDArray[np.float64]:
    """What the bare runtime returns for the pixels divided by 255."""
    interpreter = open_interpreter(content, threads=1)
    (taken,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], (image.pixels / 255).astype(np.float32)[None])
    interpreter.invoke()
    scale, zero_point = made["quantization"]
    raw = interpreter.get_tensor(made["index"])[0].astype(np.float64)
    return np.asarray((raw - zero_point) * scale if scale else raw, np.float64)


@settings(max_examples=60)
@given(
    st.sampled_from(list(HEADS)),
    st.integers(2, 12),
    st.integers(0, 999),
    st.sampled_from(["float", "int8", "dequantized"]),
)
@example(mean_of_softmaxes, 10, 1, "int8")
@example(hard_sigmoid, 10, 1, "dequantized")
@example(percent, 3, 1, "float")
def test_generated_model_is_answered_as_the_definition_says(
    head: Callable[[TinyModel, int, int], int], count: int, seed: int, form: str
) -> None:
    content = built(head, count, seed, form)
    classifier = opened(content)
    images = list(probe_images(SIDE, SIDE))
    rows = [raw_outputs(content, image) for image in images]
    step = 0.0 if form == "float" else QUANTIZED.get(HEADS[head], (0.25, 0))[0]
    kind = reference([row.tolist() for row in rows], step)
    assert classifier.seen is not None
    assert classifier.seen.kind == kind
    for image, row in zip(images, rows, strict=True):
        powers = np.exp(row - row.max())
        right = {"percent": row / 100, "logits": powers / powers.sum()}.get(kind, row)
        scores, _ = classifier.scores(image)
        assert scores.probabilities == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize("head", list(HEADS), ids=lambda head: str(head.__name__))
def test_kind_of_a_typical_head_is_recognized(head: Callable[[TinyModel, int, int], int]) -> None:
    seen = opened(built(head, 6, seed=1)).seen
    assert seen is not None
    assert seen.kind == HEADS[head]


def test_model_is_not_probed_when_a_setting_or_the_last_operator_says_it() -> None:
    content = built(mean_of_softmaxes, 4, seed=1)
    for score in ("probability", "percent", "logits"):
        classifier = opened(content, score=score)
        assert (classifier.score, classifier.seen) == (score, None)
    softmax = opened(built(lambda model, features, count: model.softmax(model.dense(features, count)), 4, seed=1))
    assert (softmax.score, softmax.seen) == ("probability", None)


def test_every_worker_reads_the_scores_in_the_same_way() -> None:
    file = read_model_file(built(percent, 4, seed=1))
    wanted = ModelSettings(labels=LABELS[:4], mean=(0.0,), std=(255.0,))
    workers = open_classifiers(file, wanted, workers=3, threads=1)
    assert [worker.score for worker in workers] == ["percent"] * 3


def test_decision_of_the_trial_is_used_instead_of_a_probe() -> None:
    file = read_model_file(built(percent, 4, seed=1))
    wanted = ModelSettings(labels=LABELS[:4], mean=(0.0,), std=(255.0,))
    kept = SeenScores("logits", 0, 1, 2, 3)
    (classifier,) = open_classifiers(file, wanted, workers=1, threads=1, seen=kept)
    assert (classifier.score, classifier.seen) == ("logits", kept)


def test_images_that_give_nan_are_left_out_of_the_decision() -> None:
    """Black gives 0/0 in a model that divides by the brightness."""
    model = TinyModel(1)
    features = model.pooled(model.image(1, SIDE, SIDE, 3), (1, 2), (1, 3))
    classifier = opened(model.finish(model.operator(DIV, [features, features], (1, 3), options=(29, {}))))
    assert not np.isfinite(classifier.values(next(probe_images(SIDE, SIDE)))).all()
    assert classifier.seen is not None
    assert classifier.seen.highest == 1


def test_model_that_gives_only_nan_is_refused() -> None:
    model = TinyModel(1)
    features = model.pooled(model.image(1, SIDE, SIDE, 3), (1, 2), (1, 3))
    with pytest.raises(NotFiniteError, match="NaN or infinity for every image"):
        opened(model.finish(model.operator(MUL, [features, model.constant([np.nan])], (1, 3), options=(21, {}))))


@pytest.mark.parametrize("size", [(8, 8), (96, 64), (1, 300), (2, 2), (513, 7)])
def test_probe_images_have_the_size_of_the_input_and_differ(size: tuple[int, int]) -> None:
    images = [image.pixels for image in probe_images(*size)]
    assert len(images) == 16
    assert {image.shape for image in images} == {(*size, 3)}
    assert {image.dtype for image in images} == {np.dtype(np.uint8)}
    if min(size) > 2:
        assert len({image.tobytes() for image in images}) == 16
    assert [image.tobytes() for image in images] == [image.pixels.tobytes() for image in probe_images(*size)]


@pytest.mark.reports
@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "kind", "best"),
    [
        ("average_of_two_softmax", "distribution", 0.50),
        ("concat_sigmoids", "independent", 0.99),
        ("hard_sigmoid", "independent", 1.0),
    ],
)
def test_reported_model_answers_with_its_own_outputs(
    reports: Path, assets: Path, name: str, kind: str, best: float
) -> None:
    path = reports / f"{name}.tflite"
    file = read_model_file(path.read_bytes())
    (classifier,) = open_classifiers(file, file.settings.overridden_by(read_sidecars(path)), workers=1, threads=1)
    scores, _ = classifier.scores(decode((assets / "photos" / "parrot.jpg").read_bytes()))
    assert classifier.seen is not None
    assert classifier.seen.kind == kind
    assert scores.best(1)[0].score == pytest.approx(best, abs=0.02)


@pytest.mark.assets
@pytest.mark.parametrize("name", PUBLISHED)
def test_values_of_a_published_model_agree_with_its_last_operator(assets: Path, name: str) -> None:
    seen = probe(published(assets, name))
    assert seen.score == ("logits" if name == "mobilenet_v2_224_quant_nometadata" else "probability")
