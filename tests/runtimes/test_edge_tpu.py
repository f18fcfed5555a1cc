"""Models for an Edge TPU, whose delegate library is a stand-in: what works, and each way it can fail."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agents.edge_tpu import edge_tpu_library
from agents.models_on_disk import DIGITS

from agent.errors import ModelError
from agent.host.library import find_library
from agent.image import Image
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.models.trial import Trial
from agent.runtimes.edge_tpu_classifier import EdgeTpu, EdgeTpuClassifier
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model_file.metadata import ModelFile
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.selection import Wanted

pytestmark = [pytest.mark.assets, pytest.mark.long]

LABELS = ModelSettings(labels=tuple(f"label {number}" for number in range(1001)), score="probability")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edge_tpu_library(tmp_path_factory.mktemp("edge_tpu"))


@pytest.fixture
def path(assets: Path) -> Path:
    return assets / "refuse/refuse_custom_op_edgetpu/mobilenet_v1_0.25_128_quant_edgetpu.tflite"


@pytest.fixture
def model(path: Path) -> ModelFile:
    return read_model_file(path.read_bytes())


@pytest.fixture
def installed(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))


@pytest.fixture
def unplugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, the Edge TPU is absent."""
    file = tmp_path / "unplugged"
    monkeypatch.setenv("EDGE_TPU_UNPLUGGED", str(file))
    return file


def opened(model: ModelFile, accelerator: Wanted = "auto", workers: int = 1) -> tuple[Classifier, ...]:
    return open_classifiers(model, LABELS, workers=workers, threads=1, accelerator=accelerator)


def best(classifier: Classifier, gray: int) -> str:
    """The stand-in's label for an image of this gray."""
    image = Image(np.full((128, 128, 3), gray, np.uint8))
    return classifier.scores(image)[0].best(1)[0].label


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("accelerator", ["auto", "edgetpu"])
def test_edge_tpu_computes_a_model_that_is_compiled_for_it(model: ModelFile, accelerator: Wanted) -> None:
    first, second = opened(model, accelerator, workers=2)
    assert [best(first, 7), best(second, 9)] == ["label 7", "label 9"]
    assert next(iter(first.outputs().values())).argmax() == 7
    assert (first.accelerator, first.accelerator_reason) == ("edgetpu", "The model is compiled for the Edge TPU.")
    assert first.ran_on.endswith(", edgetpu")


@pytest.mark.usefixtures("installed")
def test_trial_runs_the_model_on_the_edge_tpu(path: Path) -> None:
    assert Trial(threads=1, accelerator="auto").run(path, LABELS).invoke_ms > 0
    with pytest.raises(ModelError, match="runs on no other hardware"):
        Trial(threads=1).run(path, LABELS)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_model_is_rejected_if_the_configuration_excludes_the_edge_tpu(model: ModelFile, accelerator: Wanted) -> None:
    with pytest.raises(ModelError, match="runs on no other hardware"):
        opened(model, accelerator)


def test_model_is_rejected_without_the_library(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.runtimes.runtime.edge_tpu_library", lambda: None)
    with pytest.raises(ModelError, match="runs on no other hardware"):
        opened(model)


@pytest.mark.usefixtures("installed")
def test_other_models_stay_on_the_cpu(unplugged: Path) -> None:
    unplugged.touch()
    digits = read_model_file(DIGITS)
    (classifier,) = open_classifiers(digits, digits.settings, workers=1, threads=1, accelerator="edgetpu")
    assert classifier.accelerator == "cpu"


@pytest.mark.usefixtures("installed")
def test_model_is_rejected_without_an_edge_tpu(model: ModelFile, unplugged: Path) -> None:
    unplugged.touch()
    with pytest.raises(ModelError, match=r"cannot be used: .*found no Edge TPU.*no device.*Connect it and drop"):
        opened(model)


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_model_is_rejected_if_the_library_is_damaged(model: ModelFile, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "libedgetpu.so.1").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        EdgeTpu(model, library=str(tmp_path / "libedgetpu.so.1"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        EdgeTpu(model, library=str(find_library("libc.so.6")))


def test_edge_tpu_refuses_a_damaged_model(library: Path) -> None:
    damaged = dataclasses.replace(read_model_file(DIGITS), content=DIGITS[:2000])
    with pytest.raises(ModelError, match=r"it refuses the model|its driver crashed"):  # tflite-runtime crashes
        EdgeTpu(damaged, library=str(library))


def test_edge_tpu_is_opened_again_after_it_was_unplugged(model: ModelFile, library: Path, unplugged: Path) -> None:
    now_s = 0.0
    tpu = EdgeTpu(model, library=str(library), clock=lambda: now_s)
    classifier = EdgeTpuClassifier(model, LABELS, tpu)
    assert best(classifier, 3) == "label 3"
    unplugged.touch()
    with pytest.raises(ModelError, match=r"The Edge TPU failed: .*USB transfer error.*opens it again automatically"):
        best(classifier, 3)
    assert "USB transfer error" in classifier.accelerator_reason
    now_s = 6.0
    with pytest.raises(ModelError, match="found no Edge TPU"):
        best(classifier, 3)
    unplugged.unlink()
    with pytest.raises(ModelError, match="USB transfer error"):  # only every 5 s
        best(classifier, 3)
    now_s = 12.0
    assert best(classifier, 4) == "label 4"
    assert classifier.accelerator_reason == "The model is compiled for the Edge TPU."


def test_workers_that_waited_for_an_attempt_do_not_repeat_it(model: ModelFile, library: Path, unplugged: Path) -> None:
    times_s = iter([0.0, 6.0, 26.0, 27.0])  # opened, asked, given up after 20 s, asked by the next worker
    tpu = EdgeTpu(model, library=str(library), clock=lambda: next(times_s))
    classifier = EdgeTpuClassifier(model, LABELS, tpu)
    unplugged.touch()
    for words in ("USB transfer error", "found no Edge TPU", "USB transfer error"):
        with pytest.raises(ModelError, match=words):
            best(classifier, 3)
    assert next(times_s, None) is None
