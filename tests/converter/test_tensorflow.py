"""TensorFlow on the machine that converts: which device it computes on, and what is said where it is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from agent.errors import ModelError
from agent.runtimes.tensorflow import device_name, import_keras_2, import_tensorflow

tf = pytest.importorskip("tensorflow", reason="TensorFlow has an environment of its own: .venv-converter")


def test_without_a_gpu_the_cpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert device_name() == f"TensorFlow {tf.__version__} on CPU"


def test_a_gpu_is_named_and_its_memory_taken_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    growing: list[str] = []

    def grow(gpu: str, *, enable: bool) -> None:
        assert enable
        growing.append(gpu)

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: {"device_name": "NVIDIA H200"})
    assert device_name() == f"TensorFlow {tf.__version__} on NVIDIA H200"
    assert growing == ["GPU"]


def test_a_gpu_that_is_in_use_already_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_: Any, **__: Any) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    assert import_tensorflow() is tf


def test_what_is_missing_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ModelError, match=r"^tf-keras, .* pip install 'edge-agent\[converter\]'\.$"):
        import_keras_2()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModelError, match=r"^TensorFlow .* pip install 'edge-agent\[converter\]'\.$"):
        import_tensorflow()
