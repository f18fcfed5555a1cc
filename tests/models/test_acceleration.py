"""Versions that move to a GPU, which is SwiftShader: when, why, and what happens when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import cv2
import psutil
import pytest
from agents import swiftshader
from agents.managed import ONE, TWO, Managed
from agents.models_on_disk import DIGIT_LABELS, DIGITS, photo_of_3, write_whole

from agent.errors import AcceleratorError
from agent.model_file.metadata import read_model_file
from agent.models.acceleration import Selector
from agent.models.accelerator_trial import AcceleratorTrial
from agent.models.choices import Choices
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.selection import Choice, Comparison
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.runtimes.selection import Wanted

pytestmark = pytest.mark.long

MODEL = read_model_file(DIGITS)
_TRIAL = "from agent.models import accelerator_trial_process as p\n"
# The CPU computes each image 2,000 times, which takes longer than SwiftShader.
_SLOW_CPU = """
from agent.runtimes.tflite import TFLiteClassifier
once = TFLiteClassifier._invoke
TFLiteClassifier._invoke = lambda self, tensor: [once(self, tensor) for _ in range(2000)][-1]
"""
_WRONG_CPU = """
from agent.runtimes.tflite import TFLiteClassifier
right = TFLiteClassifier._invoke
TFLiteClassifier._invoke = lambda self, tensor: right(self, tensor)[::-1].copy()
"""
_OTHER_PROCESS = """
import functools
from agent.runtimes import accelerator
accelerator.Accelerator = functools.partial(accelerator.Accelerator, process=("-c", {script!r}), open_s={open_s})
"""
_NO_MEMORY = (
    "import resource; resource.setrlimit(resource.RLIMIT_DATA, (100 << 20,) * 2)\n"
    "from agent.runtimes import accelerator_process as p; p.main(p.open_model)"
)


def trial_with(script: str) -> AcceleratorTrial:
    """The real trial, whose process runs `script` first."""
    return AcceleratorTrial(threads=1, process=("-c", f"{_TRIAL}{script}\np.main(p.try_out)"))


def trial_on(script: str, *, open_s: float = 60) -> AcceleratorTrial:
    """The real trial with another process for the GPU."""
    return trial_with(_OTHER_PROCESS.format(script=script, open_s=open_s))


class CountingTrial(AcceleratorTrial):
    """Counts its runs, which find what is given to it."""

    def __init__(self, *, gpu_ms: float = 1.0) -> None:
        super().__init__(threads=1)
        self.runs = 0
        self.found = Comparison("GPU", 10.0, gpu_ms, 0.0, 0.05)

    def run(self, *model: object) -> Comparison:
        self.runs += 1
        return self.found


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    swiftshader.use(monkeypatch)


def selector(folder: Path, trial: AcceleratorTrial, wanted: Wanted = "auto", **options: Any) -> Selector:
    return Selector(wanted=wanted, trial=trial, choices=Choices(folder / "choices.json"), threads=1, **options)


def chosen(folder: Path, trial: AcceleratorTrial, wanted: Wanted = "auto", **options: Any) -> Choice:
    return selector(folder, trial, wanted, **options).choose("0" * 64, MODEL, MODEL.settings, None)


@contextlib.asynccontextmanager
async def accelerated(managed: Managed) -> AsyncIterator[None]:
    task = asyncio.create_task(managed.manager.accelerate())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(managed: Managed, condition: Callable[[], bool]) -> None:
    """Longer than other tests wait: a trial on a busy machine takes 20 s."""
    await managed.until(condition, timeout_s=120)


def scored(managed: Managed) -> str:
    """The label of a photo of a 3."""
    return managed.manager.get("m").classifier(0).scores(photo_of_3())[0].best(1)[0].label


@pytest.mark.usefixtures("gpu")
def test_gpu_that_is_slower_than_the_cpu_is_not_used(tmp_path: Path) -> None:
    choice = chosen(tmp_path, AcceleratorTrial(threads=1))
    assert choice.accelerator == "cpu"
    assert choice.reason is not None
    assert choice.reason.startswith(f"The GPU ({swiftshader.DEVICE}")
    assert "per image, the CPU" in choice.reason


@pytest.mark.usefixtures("gpu")
def test_gpu_that_is_faster_than_the_cpu_is_used(tmp_path: Path) -> None:
    assert chosen(tmp_path, trial_with(_SLOW_CPU)).accelerator == "gpu"


@pytest.mark.usefixtures("gpu")
def test_gpu_that_is_slower_is_used_on_demand(tmp_path: Path) -> None:
    assert chosen(tmp_path, AcceleratorTrial(threads=1), "gpu").accelerator == "gpu"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("wanted", ["auto", "gpu"])
def test_gpu_with_other_scores_is_not_used(tmp_path: Path, wanted: Wanted) -> None:
    choice = chosen(tmp_path, trial_with(_WRONG_CPU), wanted)
    assert choice.accelerator == "cpu"
    assert "gives scores that differ from those of the CPU" in str(choice.reason)


@pytest.mark.usefixtures("gpu")
def test_trial_compares_the_golden_samples_of_the_file() -> None:
    """Without any, it needs artificial images."""
    trial = trial_with("from agent.runtimes import probe\nprobe.probe_images = lambda *_: exit('no images')")
    three: bytes = cv2.imencode(".png", photo_of_3().to_color("bgr").pixels)[1].tobytes()
    additions = {"golden": {"tolerance": 0.0, "samples": [{"file": "golden/1.png", "label": "3"}]}}
    golden = pack_metadata(
        DIGITS,
        labels=DIGIT_LABELS,
        mean=[0.0],
        std=[255.0],
        color="gray",
        name="digits",
        version="1",
        additions=additions,
        files={"golden/1.png": three},
    )
    assert trial.run(read_model_file(golden), MODEL.settings, None).difference < 0.05
    with pytest.raises(AcceleratorError, match="no images"):
        trial.run(MODEL, MODEL.settings, None)


@pytest.mark.usefixtures("gpu")
def test_trial_reads_the_scores_as_the_service_does() -> None:
    settings = dataclasses.replace(MODEL.settings, score=None)
    (classifier,) = open_classifiers(MODEL, settings, workers=1, threads=1)
    assert classifier.seen is not None
    assert AcceleratorTrial(threads=1).run(MODEL, settings, classifier.seen).difference < 0.05


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (trial_on("import os; os.abort()"), r"its driver crashed \(SIGABRT\)"),
        (trial_on("import signal; signal.pause()", open_s=0.01), "it did not answer within 0 s"),
        (trial_on(_NO_MEMORY), "crashed|memory"),
        (trial_with("raise SystemExit('no way')"), r"its trial ended with exit code 1 \(no way\)"),
        (AcceleratorTrial(threads=1, timeout_s=0.01), "its trial did not finish within 0 s"),
    ],
)
def test_gpu_that_fails_in_its_trial_is_not_used(tmp_path: Path, trial: AcceleratorTrial, words: str) -> None:
    with pytest.raises(AcceleratorError, match=words):
        trial.run(MODEL, MODEL.settings, None)
    choice = chosen(tmp_path, trial)
    assert choice.accelerator == "cpu"
    assert str(choice.reason).startswith("The GPU cannot be used: ")


def test_choice_is_remembered_until_the_model_the_driver_or_the_wish_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.models.acceleration.has_gpu_runtime", lambda: True)
    trial = CountingTrial()
    for _ in range(2):  # each with a new Choices, as after a restart
        assert chosen(tmp_path, trial, driver=lambda: "v1").accelerator == "gpu"
    assert trial.runs == 1
    chosen(tmp_path, trial, driver=lambda: "v2")
    chosen(tmp_path, trial, "gpu", driver=lambda: "v1")
    monkeypatch.setattr("agent.models.acceleration.runtime", lambda: "ai-edge-litert 9.0.0")
    chosen(tmp_path, trial, driver=lambda: "v1")
    assert trial.runs == 4


def test_choice_that_cannot_be_written_or_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.models.acceleration.has_gpu_runtime", lambda: True)
    trial = CountingTrial()
    (tmp_path / "choices.json").write_text('{"format": 2}')
    chosen(tmp_path, trial, driver=lambda: "v1")
    assert json.loads((tmp_path / "choices.json").read_text())["format"] == 1
    (tmp_path / "choices.json").unlink()
    (tmp_path / "choices.json").mkdir()
    assert chosen(tmp_path, trial, driver=lambda: "v1").accelerator == "gpu"
    assert trial.runs == 2
    assert "The next start tries the GPU again." in caplog.text


def test_choice_is_not_remembered_if_no_process_could_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.models.acceleration.has_gpu_runtime", lambda: True)
    monkeypatch.setattr("agent.models.accelerator_trial.sys.executable", str(tmp_path / "gone"))
    choice = chosen(tmp_path, AcceleratorTrial(threads=1), driver=lambda: "v1")
    assert str(choice.reason).startswith("The GPU cannot be used: [Errno 2]")
    assert not (tmp_path / "choices.json").exists()


def test_nothing_is_tried_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.models.acceleration.has_gpu_runtime", lambda: True)
    trial = CountingTrial()
    assert chosen(tmp_path, trial, driver=lambda: None) == Choice("cpu", None)
    assert chosen(tmp_path, trial, "gpu", driver=lambda: None).reason == (
        "The agent may use no GPU here, or its Vulkan driver is missing. See docs/how-to/accelerators.md."
    )
    monkeypatch.setattr("agent.models.acceleration.has_gpu_runtime", lambda: False)
    assert "cannot use a GPU" in str(chosen(tmp_path, trial, "gpu", driver=lambda: "v1").reason)
    assert "not compiled for the Edge TPU" in str(chosen(tmp_path, trial, "edgetpu", driver=lambda: "v1").reason)
    assert (trial.runs, list(tmp_path.iterdir())) == (0, [])


@pytest.mark.anyio
@pytest.mark.usefixtures("gpu")
async def test_every_version_serves_on_the_cpu_and_then_on_the_gpu(folder: Path) -> None:
    managed = Managed(folder, selector=selector(folder.parent, AcceleratorTrial(threads=1), "gpu"))
    for content, number in ((ONE, 1), (TWO, 2)):
        write_whole(folder / "m.tflite", content)
        await managed.reconcile()
        assert managed.status().serving is not None
        assert managed.status().to_json()["accelerator"] == "cpu"
        async with accelerated(managed):
            await until(managed, lambda: managed.statuses[-1].to_json()["accelerator"] == "gpu")
        assert (managed.version(), scored(managed)) == (number, "3")
        assert swiftshader.DEVICE in managed.status().to_json()["runtime"]
        commands = [child.cmdline() for child in psutil.Process().children()]
        assert sum("agent.runtimes.accelerator_process" in command for command in commands) == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("gpu")
async def test_version_stays_on_the_cpu_with_the_reason_when_its_gpu_dies(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    managed = Managed(folder, selector=selector(folder.parent, AcceleratorTrial(threads=1), "gpu"))
    write_whole(folder / "m.tflite", ONE)
    await managed.reconcile()
    async with accelerated(managed):
        await until(managed, lambda: managed.statuses[-1].to_json()["accelerator"] == "gpu")
        managed.manager.get("m").classifier(0)._placed._process.kill()  # type: ignore[attr-defined]  # a crash
        assert await asyncio.to_thread(scored, managed) == "3"
        await until(managed, lambda: managed.statuses[-1].to_json()["accelerator"] == "cpu")
    assert "it needs more memory than is free" in managed.statuses[-1].to_json()["accelerator_reason"]
    assert "The GPU failed while it computed model m version 1" in caplog.text


@pytest.mark.anyio
async def test_version_stays_on_the_cpu_when_its_driver_is_gone_after_the_trial(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swiftshader.use(monkeypatch)
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "gone.json"))
    managed = Managed(folder, selector=selector(folder.parent, CountingTrial(), driver=lambda: "v1"))
    write_whole(folder / "m.tflite", ONE)
    await managed.reconcile()
    async with accelerated(managed):
        await until(managed, lambda: managed.statuses[-1].to_json()["accelerator_reason"] is not None)
    assert managed.statuses[-1].to_json()["accelerator_reason"].startswith("The GPU cannot be used: ")
    assert scored(managed) == "3"
