"""Trials in a real child process: whatever a candidate does to it becomes a reason for a rejection."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING

import pytest
from agents.models_on_disk import BARE_DIGITS, DIGIT_LABELS, DIGITS

from agent.errors import IncompleteModelError, ModelError
from agent.model_file.settings import ModelSettings
from agent.models.trial import Trial, memory_bound
from agent.runtimes.tensorflow import command_that_installs

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ModelSettings(labels=DIGIT_LABELS, mean=(0.0,), std=(255.0,))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "copy.tflite"
    path.write_bytes(DIGITS)
    return path


def refusal_of(model: Path, overrides: ModelSettings | None = None) -> str:
    """Why the trial refuses it."""
    with pytest.raises(ModelError) as refusal:
        Trial(threads=1).run(model, overrides or ModelSettings())
    return str(refusal.value)


def test_trial_reports_time_and_memory_of_a_good_model(model: Path) -> None:
    report = Trial(threads=2).run(model, ModelSettings())
    assert 0 < report.invoke_ms < 1000
    assert 0 < report.cpu_ms < 1000
    assert report.load_ms > 0
    assert 0 < report.bytes_each < 100 << 20
    assert report.golden == 0


def test_trial_uses_the_settings_of_sidecars_and_configuration(model: Path) -> None:
    model.write_bytes(BARE_DIGITS)
    assert "has no labels" in refusal_of(model)
    assert Trial(threads=1).run(model, LABELS).invoke_ms > 0
    assert "There are 2 labels for 10 outputs" in refusal_of(model, ModelSettings(labels=("a", "b")))


def test_trial_distinguishes_a_truncated_file_from_a_wrong_one(model: Path) -> None:
    model.write_bytes(DIGITS[:-100])
    with pytest.raises(IncompleteModelError, match="damaged or incomplete"):
        Trial(threads=1).run(model, ModelSettings())
    model.write_bytes(b"GIF89a" + bytes(100))
    assert "not a .tflite model" in refusal_of(model)


def test_trial_ends_after_its_timeout_when_the_candidate_hangs(model: Path) -> None:
    with pytest.raises(ModelError, match=r"trial did not finish within 0 s: the model hangs"):
        Trial(threads=1, timeout_s=0.01).run(model, ModelSettings())


def trial_that(does: str) -> Trial:
    """A trial whose process runs `does` instead of loading the model."""
    script = f"import sys; from agent.models import trial_process as p\ndef t(request):\n {does}\np.main(t)"
    return Trial(threads=1, process=("-c", script))


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"The runtime crashed on the model \(SIGSEGV\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "needs more memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "does not finish"),
        ("import os; os.write(2, b'std::bad_alloc'); os.abort()", "needs more memory"),
        ("x = [bytearray(1 << 24) for _ in range(1000)]", "needs more memory than it may use"),
        ("raise KeyError('x')", r"trial failed \(KeyError: 'x'\).*report this"),
        ("import os; os._exit(3)", r"trial failed \(exit code 3\)"),
        ("print('noise of a runtime'); import os; os._exit(0)", "trial failed"),
    ],
)
def test_trial_gives_the_reason_when_its_process_ends_badly(model: Path, does: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        trial_that(does).run(model, ModelSettings())


def test_trial_answer_is_read_correctly_when_a_runtime_prints(model: Path) -> None:
    report = json.dumps({"load_ms": 1, "invoke_ms": 2, "cpu_ms": 3, "bytes_each": 4})
    trial = trial_that(f"import os; os.write(1, b'INFO: noise'); return {report}")
    assert trial.run(model, ModelSettings()).cpu_ms == 3


def test_memory_limit_depends_on_file_size_and_free_memory() -> None:
    assert 512 << 20 < memory_bound(len(DIGITS), 100 << 30) < 514 << 20
    assert memory_bound(len(DIGITS), 400 << 20) == 300 << 20
    assert memory_bound(len(DIGITS), 10 << 20) == 192 << 20


def test_trial_imports_nothing_from_the_working_directory_of_the_agent(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('run from the models folder')")
    monkeypatch.chdir(tmp_path)
    assert Trial(threads=1).run(model.relative_to(tmp_path), ModelSettings()).invoke_ms > 0


@pytest.mark.assets
def test_saved_model_on_a_device_without_tensorflow_names_the_command_that_installs_it(assets: Path) -> None:
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed")
    words = refusal_of(assets / "savedmodels/vww_96_savedmodel", ModelSettings(("no", "yes"), (0.0,), (255.0,)))
    assert words == (
        f"TensorFlow is not installed. Install it: {sys.executable} -m pip install 'edge-agent[tensorflow]'"
    )


def test_trial_of_a_saved_model_has_limits_that_fit_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").write_bytes(bytes(1000))
    monkeypatch.setattr("agent.models.trial.free_bytes", lambda: 64 << 30)
    monkeypatch.setattr("agent.models.trial.os.cpu_count", lambda: 8)
    for has_nvidia, expected in ((False, (2 << 30) + 8 * (64 << 20) + 16_000), (True, None)):
        monkeypatch.setattr("agent.models.trial.has_nvidia", lambda has_nvidia=has_nvidia: has_nvidia)
        limits = Trial(threads=1)._limits_for_tensorflow(tmp_path / "1")
        assert (limits.timeout_s, limits.cpu_s, limits.memory_bytes) == (300, 2400, expected)


def test_service_names_its_own_installer(tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    (tmp_path / "system/install.sh").touch()
    assert command_that_installs(str(tmp_path)) == "sudo /opt/edge-agent/current/system/install.sh --tensorflow"
