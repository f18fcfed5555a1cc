"""Evaluation: its figures compared with scikit-learn's, and which models --max-drop refuses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import (
    QUIET,
    converted,
    finished_classifier,
    readable_images,
    scores,
    source_classifier,
    untracked,
    write_labels,
)

from agent.model_file.metadata import Tensor
from agent.model_file.settings import ModelSettings
from agent.runtimes.classifier import Classifier
from converter import conversion
from converter.errors import ConversionError, DropError, ImagesError, UsageError
from converter.evaluation.answers import Answers, Subject
from converter.evaluation.comparison import finished_subject
from converter.evaluation.evaluation import Evaluation, evaluate
from converter.evaluation.figures import class_figures
from converter.images.image_folder import FoundImage, ImageFolder, list_images

if TYPE_CHECKING:
    from converter.conversion import Conversion

pytestmark = pytest.mark.filterwarnings(*QUIET)
metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is only in .venv-converter")

COLORS = ("blue", "gray", "green", "red")


def answers(name: str, scores: Any) -> Answers:
    return Answers(name, "a runtime", 1000, np.asarray(scores, np.float32), np.ones(len(scores), np.float32))


def evaluation(truth: Any, *models: Answers, labeled: bool = True) -> Evaluation:
    images = tuple(FoundImage(Path(f"/images/{number:03}.png"), None) for number in range(len(truth)))
    count = models[0].scores.shape[1]
    return Evaluation(
        folder=ImageFolder(Path("/images"), images),
        labels=tuple(f"class {index}" for index in range(count)),
        images=images,
        left_out=(),
        labeled=labeled,
        truth=np.asarray(truth),
        answers=models,
    )


def assert_figures_equal_scikit_learn(result: Evaluation) -> None:
    every = range(len(result.labels))
    for model, entry in zip(result.answers, result.to_json()["models"], strict=True):
        truth, best = result.truth, model.scores.argmax(axis=1)
        assert entry["top1"] == pytest.approx(metrics.accuracy_score(truth, best))
        top5 = metrics.top_k_accuracy_score(truth, model.scores, k=5, labels=every) if len(every) > 5 else 1.0
        assert entry["top5"] == pytest.approx(top5)
        assert entry["macro_f1"] == pytest.approx(metrics.f1_score(truth, best, average="macro", zero_division=0))
        assert np.array_equal(model.confusion(truth), metrics.confusion_matrix(truth, best, labels=every))
        report = metrics.classification_report(
            truth, best, labels=every, target_names=result.labels, output_dict=True, zero_division=0
        )
        for figures in entry["classes"]:
            theirs = report[figures["label"]]
            assert figures["images"] == theirs["support"]
            assert figures["precision"] == pytest.approx(theirs["precision"])
            assert figures["recall"] == pytest.approx(theirs["recall"])
            assert figures["f1"] == pytest.approx(theirs["f1-score"])


@pytest.fixture(scope="module")
def colors(small_saved_model: Path, color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """Evaluated with some images in wrong folders, so that not every answer is right."""
    root = tmp_path_factory.mktemp("mislabelled")
    for number, image in enumerate(sorted(color_images.rglob("*.png"))):
        name = COLORS[number % 3] if number % 5 == 0 else image.parent.name
        (root / "images" / name).mkdir(parents=True, exist_ok=True)
        (root / "images" / name / f"{number}.png").write_bytes(image.read_bytes())
    (root / "images" / "red" / "half.png").write_bytes(image.read_bytes()[:60])
    options: dict[str, Any] = {"calibration": color_images, "evaluation": root / "images"}
    return converted(small_saved_model, root / "colors.tflite", "int8", "none", **options)


@pytest.mark.parametrize(("images", "labels"), [(300, 7), (40, 30), (9, 6)])
def test_figures_of_random_answers_equal_those_of_scikit_learn(images: int, labels: int) -> None:
    random = np.random.default_rng(labels)
    truth = random.integers(0, labels - 1, images)  # the last class never occurs
    guesses = random.dirichlet(np.ones(labels), images)
    better = guesses + 0.3 * np.eye(labels)[truth]
    assert_figures_equal_scikit_learn(evaluation(truth, answers("source", better), answers("model", guesses)))


def test_figures_of_real_answers_equal_those_of_scikit_learn(colors: Conversion) -> None:
    for model in colors.models:
        assert model.evaluation is not None
        assert 0.5 < model.evaluation.model.accuracy(model.evaluation.truth, among=1) < 1
        assert_figures_equal_scikit_learn(model.evaluation)


def test_scores_equal_those_of_the_written_file_and_its_source(colors: Conversion, small_saved_model: Path) -> None:
    for model in colors.models:
        result = model.evaluation
        assert result is not None
        images = [found.read(smallest_side=32) for found in result.images]
        assert np.array_equal(result.model.scores, scores(finished_classifier(model.path.read_bytes()), images))
        assert result.source is not None
        assert result.fitted is not None
        assert result.fitted.temperature is not None
        source = source_classifier(small_saved_model, COLORS, temperature=result.fitted.temperature)
        assert np.array_equal(result.source.scores, scores(source, images))


def test_unreadable_images_are_skipped_and_named(colors: Conversion) -> None:
    (result, _) = (model.evaluation for model in colors.models)
    assert result is not None
    assert len(result.images) == 80
    (name,) = result.left_out
    assert name.startswith("red/half.png: The image is damaged")
    assert any("Skipped unreadable images (1): red/half.png" in note for note in colors.notes)


def test_answers_of_the_source_count_as_correct_without_class_folders(
    small_saved_model: Path, color_images: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for image in color_images.rglob("*.png"):
        (flat / f"{image.parent.name}-{image.name}").write_bytes(image.read_bytes())
    labels = write_labels(tmp_path / "labels.txt", COLORS)
    conversion = converted(small_saved_model, tmp_path / "c.tflite", "none", evaluation=flat, labels=labels)
    result = conversion.models[0].evaluation
    assert result is not None
    assert not result.labeled
    exact = scores(source_classifier(small_saved_model, COLORS), readable_images(flat).values())
    assert np.array_equal(result.truth, exact.argmax(axis=1))
    assert (result.drop, result.agreement) == (0.0, 1.0)
    assert "the source's answers count as correct" in result.verdict


def test_changed_answers_are_sorted_by_the_score_of_the_source() -> None:
    source = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]]
    model = [[0.4, 0.6], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]
    result = evaluation([0, 1, 1, 0], answers("source", source), answers("model", model))
    assert result.changed == (0, 3, 1)
    first = result.to_json()["changed"][0]
    assert first == {
        "image": "000.png",
        "true": "class 0",
        "source": {"label": "class 0", "score": pytest.approx(0.9)},
        "model": {"label": "class 1", "score": pytest.approx(0.6)},
    }
    assert result.drop == pytest.approx(0.75)
    assert result.agreement == pytest.approx(0.25)
    difference, image, _ = result.largest_difference or (0.0, -1, -1)
    assert difference == pytest.approx(0.5)
    assert image in (0, 3)


def test_macro_f1_ignores_classes_that_never_occur() -> None:
    figures = class_figures(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert figures.occurring.tolist() == [0, 1]
    truth, best = [0] * 4 + [1] * 4, [0, 0, 0, 1, 1, 1, 1, 1]
    assert figures.macro_f1 == pytest.approx(metrics.f1_score(truth, best, average="macro"))


@pytest.fixture(scope="module")
def fragile_conversion(color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """A model that int8 ruins: the range is set by a channel a thousand times as strong as the relevant ones."""
    tf = pytest.importorskip("tensorflow")
    layers = tf.keras.layers
    folder = tmp_path_factory.mktemp("fragile")
    spread = layers.Conv2D(4, 1, use_bias=False, activation="relu")
    gather = layers.Conv2D(4, 1, use_bias=False, activation="relu")
    score = layers.Dense(4, activation="softmax")
    model = tf.keras.Sequential([layers.Input((32, 32, 3)), spread, gather, layers.GlobalAveragePooling2D(), score])
    spread.set_weights([np.hstack([np.eye(3), np.full((3, 1), 1000 / 3)])[None, None]])
    gather.set_weights([np.diag([1, 1, 1, 0.001])[None, None]])
    score.set_weights([np.array([[0, 0, 0, 30], [0, 0, 30, 0], [30, 0, 0, 0], [0, 0, 0, 0]]), np.array([0, 18, 0, 0])])
    model.save(folder / "fragile.keras")
    options: dict[str, Any] = {"calibration": color_images, "evaluation": color_images, "max_drop": 0.02}
    return converted(folder / "fragile.keras", folder / "f.tflite", "int8", "float16", "none", **options)


def test_max_drop_refuses_a_worse_scheme_and_writes_the_others(fragile_conversion: Conversion) -> None:
    int8, *others = fragile_conversion.models
    assert isinstance(int8.refusal, DropError)
    assert not int8.path.exists()
    assert int8.to_json()["written"] is False
    for model in others:
        assert model.refusal is None
        assert model.path.read_bytes() == model.content


def test_refusal_contains_figures_and_remedies(fragile_conversion: Conversion) -> None:
    int8 = fragile_conversion.models[0]
    assert int8.evaluation is not None
    refusal = str(int8.refusal)
    assert refusal.startswith("On 80 labeled images, the finished model is 25.0 % correct and the source 100.0 %: ")
    assert "75.0 percentage points lost" in refusal
    assert f"--max-drop allows 2.0 %, so {int8.path} was not written." in refusal
    assert "--explain" in refusal
    assert "--keep-float" in refusal
    assert "--quantize float16" in refusal


def test_max_drop_requires_an_evaluation(small_saved_model: Path, color_images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-drop needs an evaluation"):
        converted(small_saved_model, tmp_path / "c.tflite", "int8", calibration=color_images, max_drop=0.01)


def test_folder_name_without_a_label_is_refused_before_any_work(
    small_saved_model: Path, color_images: Path, tmp_path: Path
) -> None:
    (tmp_path / "images" / "purple").mkdir(parents=True)
    (tmp_path / "images" / "purple" / "1.png").write_bytes((color_images / "red" / "00.png").read_bytes())
    options: dict[str, Any] = {"calibration": color_images, "evaluation": tmp_path / "images"}
    with pytest.raises(ImagesError, match="matches none of the 4 labels"):
        converted(small_saved_model, tmp_path / "c.tflite", "none", **options)
    assert not (tmp_path / "c.tflite").exists()


def test_drop_is_rounded_so_that_the_exact_limit_passes() -> None:
    right, wrong = (0.9, 0.1), (0.1, 0.9)
    source = answers("source", [right] * 90 + [wrong] * 10)
    model = answers("model", [right] * 89 + [wrong] * 11)
    assert evaluation([0] * 100, source, model).drop == 0.01


class Fixed(Classifier):
    """Returns the same raw scores for every image."""

    def __init__(self, *raw: float) -> None:
        labels = tuple(f"class {index}" for index in range(len(raw)))
        settings = ModelSettings(labels=labels, mean=(0.0,), std=(1.0,), score="probability")
        super().__init__(
            (Tensor("image", (1, 8, 8, 3), "float32"),), (Tensor("scores", (1, len(raw)), "float32"),), settings
        )
        self._raw = np.asarray(raw, np.float32)

    @property
    def ran_on(self) -> str:
        return "here"

    def _invoke(self, tensor: Any) -> Any:
        return self._raw


def test_nan_scores_are_reported_in_broken(color_images: Path) -> None:
    broken = Subject("broken.tflite", 1, Fixed(np.nan, 1, 2, 3))
    whole = Subject("whole", 1, Fixed(0, 1, 2, 3))
    (result,) = evaluate([broken], list_images(color_images / "red"), source=whole, track=untracked)
    assert result.broken is not None
    assert result.broken.startswith("broken.tflite returns scores that are not numbers (NaN) for 20 images, first for ")


def test_scheme_with_nan_scores_is_refused_and_others_are_written(
    small_saved_model: Path, color_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def subject(content: bytes, name: str) -> Subject:
        return Subject(name, 1, Fixed(np.nan, 0, 0, 1)) if "float16" in name else finished_subject(content, name)

    monkeypatch.setattr(conversion, "finished_subject", subject)
    done = converted(small_saved_model, tmp_path / "m.tflite", "none", "float16", evaluation=color_images)
    whole, float16 = done.models
    assert whole.refusal is None
    assert isinstance(float16.refusal, ConversionError)
    assert str(float16.refusal).startswith("m-float16.tflite returns scores that are not numbers (NaN) for 80 images")
    assert not float16.path.exists()


def test_best_answer_works_with_negative_scores(color_images: Path) -> None:
    below = Subject("below.tflite", 1, Fixed(-4, -3, -1, -2))
    (result,) = evaluate([below], list_images(color_images / "red"), source=below, track=untracked)
    assert set(result.model.best.tolist()) == {2}
