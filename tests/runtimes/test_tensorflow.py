"""TensorFlow on machines with a GPU, without a GPU, and without TensorFlow."""

from __future__ import annotations

import gc
import logging
import sys
from types import ModuleType
from typing import Any

import pytest

from agent.errors import ModelError
from agent.runtimes.tensorflow import device_name, import_keras_2, import_tensorflow


class FakeTensorFlow(ModuleType):
    """Replaces the module on a machine with these GPUs; `growing` has those whose memory grows on demand."""

    __version__ = "2.21.0"

    def __init__(self, *gpus: str, in_use: bool = False) -> None:
        super().__init__("tensorflow")
        self._gpus, self._in_use = gpus, in_use
        self.growing: list[str] = []
        self.config = self.experimental = self  # tf.config.experimental.get_device_details()

    def list_physical_devices(self, kind: str) -> list[str]:
        assert kind == "GPU"
        return list(self._gpus)

    def set_memory_growth(self, gpu: str, *, enable: bool) -> None:
        assert enable
        if self._in_use:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        self.growing.append(gpu)

    def get_device_details(self, gpu: str) -> dict[str, Any]:
        return {"device_name": gpu}


def installed(monkeypatch: pytest.MonkeyPatch, tensorflow: FakeTensorFlow) -> FakeTensorFlow:
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    return tensorflow


def test_device_name_is_the_cpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, FakeTensorFlow())
    assert device_name() == "TensorFlow 2.21.0 on CPU"


def test_device_name_is_that_of_the_gpu_and_its_memory_grows_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow = installed(monkeypatch, FakeTensorFlow("NVIDIA H200"))
    assert device_name() == "TensorFlow 2.21.0 on NVIDIA H200"
    assert tensorflow.growing == ["NVIDIA H200"]


def test_import_accepts_a_gpu_that_is_already_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    tensorflow = installed(monkeypatch, FakeTensorFlow("NVIDIA H200", in_use=True))
    assert import_tensorflow() is tensorflow


def test_import_silences_the_information_of_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, FakeTensorFlow())
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.INFO)
    import_tensorflow()
    assert not any(logging.getLogger(name).isEnabledFor(logging.INFO) for name in ("absl", "tensorflow"))


def test_import_error_names_the_command_that_installs_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ModelError, match=r"^tf-keras, .* pip install 'edge-agent\[tensorflow\]'$"):
        import_keras_2()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModelError, match=r"^TensorFlow .* pip install 'edge-agent\[tensorflow\]'$"):
        import_tensorflow()
    assert gc.isenabled()
