"""Real models on real photos of digits: what convert fits holds on fresh photos, on the device as in the report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from agents.running_agent import AgentProcess, wait_until
from conversions import QUIET, converted, untracked

from agent.model_file.metadata import read_model_file
from converter.evaluation.calibration_error import reliability
from converter.evaluation.comparison import compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from converter.conversion import Conversion

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings(*QUIET)]
tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is only in .venv-converter")
linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is only in .venv-converter")

NEVER_TRAINED = (8, 9)
_SIDE = 8


@dataclass(frozen=True)
class Material:
    """A model of some digits, with folders of photos that it was not trained on, and photos of other digits."""

    source: Path
    training: Path
    evaluation: Path
    fresh: Path
    unknown: Path
    fresh_unknown: Path
    labels: tuple[str, ...]

    def fresh_photos(self) -> tuple[list[Path], Ints]:
        photos = sorted(self.fresh.rglob("*.png"))
        return photos, np.array([self.labels.index(photo.parent.name) for photo in photos])


def digits() -> tuple[Floats, Ints]:
    found = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return (found.images * 15.9).astype(np.float32)[order], found.target[order]


def write_photos(root: Path, pictures: Floats, truth: Ints) -> Path:
    for number, (picture, digit) in enumerate(zip(pictures, truth, strict=True)):
        (root / str(digit)).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(root / str(digit) / f"{number:04}.png"), picture.astype(np.uint8))
    return root


def exported(root: Path, layers: Sequence[Any], pictures: Floats, truth: Ints, *, labels: int, epochs: int) -> Path:
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([tf.keras.layers.Input((_SIDE, _SIDE, 1), name="image"), *layers])
    model.add(tf.keras.layers.Dense(labels, activation="softmax", name="scores"))
    model.compile(tf.keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(pictures[..., None] / 255, truth, epochs=epochs, batch_size=64, verbose=0)
    model.export(str(root / "source"), verbose=False)
    return root / "source"


@pytest.fixture(scope="module")
def overconfident(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Fitted to clean photos, twice as sure as they justify, and used on noisy ones, as of a camera in the dark.

    Its weights are the solution of a convex problem, so they and the calibration errors are the same in every run.
    """
    root, (pictures, truth) = tmp_path_factory.mktemp("overconfident"), digits()
    noise = np.random.default_rng(1).normal(0, 0.9 * 255, pictures.shape)
    noisy = np.clip(pictures + noise, 0, 255).astype(np.float32)
    fitted = linear_model.LogisticRegression(max_iter=1000).fit(pictures[:300].reshape(300, -1) / 255, truth[:300])
    layers = tf.keras.layers.Flatten(), tf.keras.layers.Dense(10, activation="softmax")
    model = tf.keras.Sequential([tf.keras.layers.Input((_SIDE, _SIDE, 1), name="image"), *layers])
    model.set_weights([2 * fitted.coef_.T, 2 * fitted.intercept_])
    model.export(str(root / "source"), verbose=False)
    evaluation = write_photos(root / "evaluation", noisy[500:1100], truth[500:1100])
    return Material(
        source=root / "source",
        training=write_photos(root / "training", noisy[300:500], truth[300:500]),
        evaluation=evaluation,
        fresh=write_photos(root / "fresh", noisy[1100:], truth[1100:]),
        unknown=evaluation,
        fresh_unknown=evaluation,
        labels=tuple(map(str, range(10))),
    )


@pytest.fixture(scope="module")
def of_eight_digits(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A good model of the digits 0 to 7, which never saw an 8 or a 9."""
    root, (pictures, truth) = tmp_path_factory.mktemp("eight"), digits()
    known, other = ~np.isin(truth, NEVER_TRAINED), np.isin(truth, NEVER_TRAINED)
    photos, right, others, which = pictures[known], truth[known], pictures[other], truth[other]
    layers = [
        tf.keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        tf.keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        tf.keras.layers.MaxPool2D(),
        tf.keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dropout(0.3),
    ]
    half = len(others) // 2
    return Material(
        source=exported(root, layers, photos[:720], right[:720], labels=8, epochs=30),
        training=write_photos(root / "training", photos[:200], right[:200]),
        evaluation=write_photos(root / "evaluation", photos[720:1080], right[720:1080]),
        fresh=write_photos(root / "fresh", photos[1080:], right[1080:]),
        unknown=write_photos(root / "unknown", others[:half], which[:half]),
        fresh_unknown=write_photos(root / "fresh_unknown", others[half:], which[half:]),
        labels=tuple(map(str, range(8))),
    )


def conversion_of(material: Material, output: Path, *schemes: Any, **changes: Any) -> Conversion:
    values = {"calibration": material.training, "evaluation": material.evaluation, "force": True}
    return converted(material.source, output, *schemes, **values | changes)


@pytest.fixture(scope="module")
def tempered(overconfident: Material, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return conversion_of(overconfident, tmp_path_factory.mktemp("tempered") / "m.tflite", "int8", "none")


@pytest.fixture(scope="module")
def thresholded(of_eight_digits: Material, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    output = tmp_path_factory.mktemp("thresholded") / "digits.tflite"
    return conversion_of(of_eight_digits, output, "int8", "none", unknown=of_eight_digits.unknown)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[AgentProcess]:
    config = {"http": {"port": 0}, "models": {"folder": "models"}, "device": {"state_folder": "state"}}
    (tmp_path / "agent.yaml").write_text(json.dumps(config))
    (tmp_path / "models").mkdir()
    with AgentProcess(tmp_path / "agent.yaml") as process:
        yield process


def classified(process: AgentProcess, photos: Sequence[Path], **options: Any) -> list[list[dict[str, Any]]]:
    """The categories of each photo, from a running agent."""
    answers: list[list[dict[str, Any]]] = []
    for at in range(0, len(photos), 64):
        files = [("files", photo.read_bytes()) for photo in photos[at : at + 64]]
        done = process.post("/batch_predict", files=files, params=options)
        assert done.status_code == 200, done.text
        answers += [each["categories"] for each in done.json()]
    return answers


def share_without_label(process: AgentProcess, folder: Path) -> float:
    answers = classified(process, sorted(folder.rglob("*.png")), score_threshold="auto")
    return sum(not categories for categories in answers) / len(answers)


def test_calibration_error_falls_by_half_on_fresh_photos_as_in_the_report(
    tempered: Conversion, overconfident: Material, tmp_path: Path
) -> None:
    photos, truth = overconfident.fresh_photos()
    for model in tempered.models:
        assert model.evaluation is not None
        fitted = model.evaluation.fitted
        assert fitted is not None
        assert fitted.after is not None
        assert fitted.after.error < fitted.before.error / 2, fitted.sentences
        answered = on_the_device(model.path, photos, tmp_path)
        plain = on_the_device(model.path, photos, tmp_path, sidecar="temperature: 1\n")
        best, second = np.sort(plain, axis=1)[:, :-3:-1].T
        clear = best - second > 1e-3  # classify prints four decimals
        assert np.array_equal(plain[clear].argmax(axis=1), answered[clear].argmax(axis=1))
        before, after = reliability(plain, truth), reliability(answered, truth)
        assert after.error < before.error / 2, model.scheme
        assert after.error == pytest.approx(fitted.after.error, abs=0.06)
        assert before.error == pytest.approx(fitted.before.error, abs=0.09)


def on_the_device(model: Path, photos: Sequence[Path], folder: Path, *, sidecar: str = "") -> Floats:
    """All scores of each photo, as `edge-agent classify` prints them."""
    copy = folder / f"copy{len(sidecar)}.tflite"
    copy.write_bytes(model.read_bytes())
    if sidecar:
        copy.with_suffix(".yaml").write_text(sidecar)
    program = str(Path(sys.executable).with_name("edge-agent"))
    command = [program, "classify", str(copy), *map(str, photos), "--json", "--max-results", "99"]
    answers = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    scores = np.zeros((len(photos), 10), np.float32)
    for row, answer in zip(scores, answers, strict=True):
        for category in answer["categories"]:
            row[category["index"]] = category["score"]
    return scores


def test_scores_of_the_device_are_those_that_the_report_judges(tempered: Conversion, tmp_path: Path) -> None:
    for model in tempered.models:
        assert model.evaluation is not None
        photos = [found.path for found in model.evaluation.images[:50]]
        answered = on_the_device(model.path, photos, tmp_path)
        assert answered == pytest.approx(model.evaluation.model.scores[:50], abs=6e-5)  # it prints four decimals


def test_digits_that_were_never_trained_get_no_label_and_known_ones_do(
    thresholded: Conversion, of_eight_digits: Material, running: AgentProcess
) -> None:
    model = thresholded.accepted[0]
    assert model.scheme == "int8"
    assert model.evaluation is not None
    reported = model.evaluation.unknown
    assert reported is not None
    running.drop(model.path.read_bytes())
    wait_until(lambda: running.model().get("serving"), what="the model to serve")
    known, unknown = (
        share_without_label(running, each) for each in (of_eight_digits.fresh, of_eight_digits.fresh_unknown)
    )
    assert known <= 0.1, (known, unknown, reported)
    assert unknown >= 0.7, (known, unknown, reported)
    assert reported.known_rejected == pytest.approx(known, abs=0.06)
    assert reported.unknown_rejected == pytest.approx(unknown, abs=0.15)


def test_evaluate_reports_what_the_threshold_of_a_file_rejects(
    thresholded: Conversion, of_eight_digits: Material
) -> None:
    path = thresholded.accepted[-1].path
    evaluation, _ = compare(
        path, of_eight_digits.fresh, source=None, signature=None, unknown=of_eight_digits.fresh_unknown, track=untracked
    )
    stored = read_model_file(path.read_bytes()).settings
    assert evaluation.unknown is not None
    assert evaluation.unknown.below == stored.unknown_below
    best = evaluation.model.scores.max(axis=1)
    assert evaluation.unknown.known_rejected == (best < evaluation.unknown.below).mean() < 0.15
    assert (evaluation.unknown.unknown_rejected or 0) >= 0.7
    assert evaluation.reliability == reliability(evaluation.model.scores, evaluation.truth)
