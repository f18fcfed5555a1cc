"""LiteRT's GPU accelerator in its process, with SwiftShader as the GPU: what it computes, and each way it can fail."""

from __future__ import annotations

import dataclasses
import itertools
import re
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agents import swiftshader
from agents.models_on_disk import DIGITS, photo_of_3

from agent.errors import AcceleratorError
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.accelerator import Accelerator
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long

MODEL = read_model_file(DIGITS)
# The process with the real GPU, in which the third call of the model runs {does}.
_THIRD_CALL = """
import os, signal, numpy as np
from agent.errors import AcceleratorError
from agent.runtimes import accelerator_process as p
def opened(request, content):
    model = p.open_model(request, content)
    run, calls = model.run, []
    def counted(tensor):
        calls.append(1)
        outputs = run(tensor)
        if len(calls) == 3:
            {does}
        return outputs
    model.run = counted
    return model
p.main(opened)
"""


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    swiftshader.use(monkeypatch)


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    opened = Accelerator("gpu", MODEL)
    yield opened
    opened.close()


@pytest.fixture
def classifier() -> TFLiteClassifier:
    return TFLiteClassifier(MODEL, MODEL.settings, threads=1)


def failing(does: str, *, answer_s: float = 60) -> Accelerator:
    return Accelerator("gpu", MODEL, process=("-c", _THIRD_CALL.format(does=does)), answer_s=answer_s)


def refusal_of(script: str, *, open_s: float = 60) -> str:
    with pytest.raises(AcceleratorError) as refused:
        Accelerator("gpu", MODEL, process=("-c", script), open_s=open_s)
    return str(refused.value)


def test_gpu_computes_what_the_cpu_does(accelerator: Accelerator, classifier: TFLiteClassifier) -> None:
    expected = classifier.scores(photo_of_3())[0].best(3)
    cpu = classifier.outputs()
    assert expected[0].label == "3"
    classifier.place(accelerator, "It is there.")
    assert [each.label for each in classifier.scores(photo_of_3())[0].best(1)] == ["3"]
    given = classifier.outputs()
    assert given.keys() == cpu.keys()
    assert all(np.allclose(given[name], cpu[name], atol=0.02) for name in cpu)
    assert (classifier.accelerator, classifier.accelerator_reason) == ("gpu", "It is there.")
    assert f"gpu ({swiftshader.DEVICE}" in classifier.ran_on


def test_process_ends_with_its_accelerator() -> None:
    opened = Accelerator("gpu", MODEL)
    process = opened._process
    del opened
    assert process.poll() is not None


def test_accelerator_that_was_closed_computes_nothing(accelerator: Accelerator) -> None:
    accelerator.close()
    with pytest.raises(AcceleratorError, match="it was closed"):
        accelerator.compute(np.zeros((1, 32, 32, 1), np.uint8))


def test_tensor_of_another_size_is_refused(accelerator: Accelerator) -> None:
    with pytest.raises(AcceleratorError, match=r"it takes \d+ bytes per image, not 3"):
        accelerator.compute(np.zeros(3, np.uint8))


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"its driver crashed \(SIGSEGV\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it needs more memory than is free"),
        ("raise AcceleratorError('the device is lost')", "the device is lost"),
        ("os._exit(3)", "its process ended with exit code 3"),
        ("outputs[0] = outputs[0].astype(np.float32)[:0]", "exit code 1"),
    ],
)
def test_cpu_computes_the_image_at_which_the_gpu_fails(does: str, words: str, classifier: TFLiteClassifier) -> None:
    expected = classifier.scores(photo_of_3())[0].best(1)
    reported: list[str] = []
    accelerator = failing(does)
    accelerator.on_failure = reported.append
    classifier.place(accelerator, "It is there.")
    for _ in range(2):
        classifier.scores(photo_of_3())
    assert classifier.accelerator == "gpu"
    for _ in range(2):
        assert classifier.scores(photo_of_3())[0].best(1) == expected
        assert classifier.outputs()
    assert classifier.accelerator == "cpu"
    assert ", cpu, 1 thread" in classifier.ran_on
    reason = str(classifier.accelerator_reason)
    assert reason.startswith(f"The GPU ({swiftshader.DEVICE}")
    assert re.search(words, reason)
    assert len(reported) == 1
    assert accelerator._process.poll() is not None


def test_cpu_computes_the_image_at_which_the_gpu_hangs(classifier: TFLiteClassifier) -> None:
    accelerator = failing("signal.pause()", answer_s=5)
    classifier.place(accelerator, None)
    for _ in range(3):
        assert classifier.scores(photo_of_3())[0].best(1)[0].label == "3"
    assert accelerator.failure == "it did not answer within 5 s"


@pytest.mark.parametrize("limit", range(1, 7))
def test_lack_of_descriptors_is_a_failure_and_leaves_none_open(limit: int) -> None:
    """For each of the descriptors that it opens before its process runs."""
    before = _open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_lowest_free(limit), hard))
    try:
        with pytest.raises(AcceleratorError, match=r"its process cannot be started \(Too many open files\)"):
            Accelerator("gpu", MODEL)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert _open_descriptors() == before


def _lowest_free(count: int) -> int:
    """The limit that leaves fewer than `count` descriptors."""
    used = _open_descriptors()
    free = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(free, count - 1, None))


def _open_descriptors() -> set[int]:
    """Without that of the folder itself."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_process_that_cannot_open_the_model_says_why() -> None:
    assert refusal_of("import signal; signal.pause()", open_s=0.01) == "it did not answer within 0 s"
    assert refusal_of("raise SystemExit('no way')") == "its process ended with exit code 1 (no way)"
    assert "SIGABRT" in refusal_of("import os; os.abort()")
    assert "memory" in refusal_of("import os; os.write(2, b'std::bad_alloc'); os.abort()")


def test_gpu_without_enough_memory_is_refused() -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (100 << 20,) * 2)\n"
    reason = refusal_of(limited + "from agent.runtimes import accelerator_process as p; p.main(p.open_model)")
    assert "crashed" in reason or "memory" in reason


def test_driver_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "gone.json"))
    with pytest.raises(AcceleratorError, match=r"GPU|adapter|compile"):
        Accelerator("gpu", MODEL)


def test_damaged_model_is_refused_by_its_process() -> None:
    with pytest.raises(AcceleratorError):
        Accelerator("gpu", dataclasses.replace(MODEL, content=DIGITS[:2000]))


@pytest.mark.assets
def test_cpu_replaces_a_gpu_that_returns_nan(assets: Path) -> None:
    model = read_model_file((assets / "models/mlperf_vww_96_float/vww_96_float.tflite").read_bytes())
    settings = ModelSettings(labels=("none", "person"), mean=(0.0,), std=(255.0,))
    classifier = TFLiteClassifier(model, settings, threads=1)
    script = _THIRD_CALL.format(does="outputs = [outputs[0] * np.nan]")
    classifier.place(Accelerator("gpu", model, process=("-c", script)), None)
    scores = [classifier.scores(photo_of_3())[0].probabilities for _ in range(4)]
    assert np.allclose(scores, scores[0], atol=0.01)
    assert classifier.accelerator == "cpu"
    assert "it returned NaN or infinity" in str(classifier.accelerator_reason)


def test_workers_that_share_a_gpu_get_their_own_answers(accelerator: Accelerator) -> None:
    images = [np.full((1, *MODEL.inputs[0].shape[1:]), gray, np.uint8) for gray in (0, 90)]
    images[1][:, 8:24, 12:16] = 255
    alone = [accelerator.compute(image)[0] for image in images]
    assert not np.array_equal(alone[0], alone[1])
    with ThreadPoolExecutor(4) as workers:
        answers = list(workers.map(lambda number: accelerator.compute(images[number % 2])[0], range(60)))
    assert all(np.array_equal(answer, alone[number % 2]) for number, answer in enumerate(answers))
