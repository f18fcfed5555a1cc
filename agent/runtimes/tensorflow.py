"""TensorFlow: imported only when needed, with few log lines and without reserving all GPU memory."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import re
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.host.extra import command_that_adds
from agent.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator


def import_tensorflow() -> Any:
    """Takes seconds the first time. If it is not installed, raises ModelError with the command that installs it."""
    is_first = "tensorflow" not in sys.modules
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if is_first and not may_compile():
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # oneDNN would compile its code all the same, and crash
    _ignore_keras_settings()
    try:
        with interrupts_held(), _garbage_kept():
            import tensorflow as tf  # noqa: PLC0415  (seconds and hundreds of megabytes)
    except ImportError as error:
        raise _not_installed("TensorFlow", error) from error
    for name in ("absl", "tensorflow"):  # "Fingerprint not found. Saved model loading will continue."
        logging.getLogger(name).setLevel(logging.WARNING)
    if is_first:
        gc.freeze()  # its 300,000 objects stay, and each collection would visit them
    # RuntimeError for a GPU already in use, whose memory is already reserved; ValueError for one with a limit.
    with suppress(RuntimeError, ValueError):
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, enable=True)
    return tf


def may_compile() -> bool:
    """Whether this process may write code and run it; systemd forbids that with MemoryDenyWriteExecute=."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True


def installed_version() -> str | None:
    """The version of TensorFlow, which is not imported for it."""
    try:
        return version("tensorflow")
    except PackageNotFoundError:
        return None


def import_keras_2() -> Any:
    """Registers the classes of Keras 2, without which its SavedModels do not load. Raises ModelError."""
    _ignore_keras_settings()
    try:
        import tf_keras  # noqa: PLC0415  (only Keras 2 models need it)
    except ImportError as error:
        raise _not_installed("tf-keras, which reads Keras 2 models,", error) from error
    return tf_keras


def _ignore_keras_settings() -> None:
    """Settings of the user, such as another back end, number type or Keras, are for the user's own programs.

    Keras reads them when it is first used, and writes its file if there is none.
    """
    for name in [name for name in os.environ if name.startswith("KERAS_") or name == "TF_USE_LEGACY_KERAS"]:
        del os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = os.devnull  # in which there can be no file


def _not_installed(what: str, error: ImportError) -> ModelError:
    absent = isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", "tf_keras")
    why = "is not installed" if absent else f"is installed but cannot be loaded ({error})"
    return ModelError(f"{what} {why}. Install it: {command_that_installs()}")


def command_that_installs(prefix: str = sys.prefix) -> str:
    """For the service, the command that upgrades remember; otherwise pip's, for the environment that runs this."""
    if Path(prefix, "system/install.sh").exists():
        return "sudo /opt/edge-agent/current/system/install.sh --tensorflow"
    return command_that_adds("tensorflow")


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Delays Ctrl-C until the end, because TensorFlow's C++ code would turn it into an ImportError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Pauses the garbage collector, which takes a sixth of an import that allocates much and releases little."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class TensorFlowOptions:
    """How TensorFlow computes; the defaults let it use as much memory of a GPU as it needs."""

    memory_limit_mb: int | None = None
    xla: bool = False
    float16: bool = False


def use_options(options: TensorFlowOptions) -> list[str]:
    """Sets up TensorFlow for this process, before it opens a model. Returns a clause for each that has no effect."""
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and options.memory_limit_mb is not None:
        with suppress(RuntimeError):  # raised for a GPU already in use
            limit = [tf.config.LogicalDeviceConfiguration(memory_limit=options.memory_limit_mb)]
            for gpu in gpus:
                tf.config.set_logical_device_configuration(gpu, limit)
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": bool(gpus) and options.float16})
    given = {"memory_limit_mb": options.memory_limit_mb is not None, "float16": options.float16}
    return [] if gpus else [f"{name} has no effect without a GPU" for name, is_set in given.items() if is_set]


def device_name(device: str | None = None) -> str:
    """TensorFlow and its device: `TensorFlow 2.21.0 on NVIDIA H200`, or `... on CPU`.

    `device` is what TensorFlow says about a result; without it, what TensorFlow would choose.
    """
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if device is not None:
        _, _, number = device.partition("device:GPU:")
        gpus = gpus[int(number) :] if number else []
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    return f"TensorFlow {tf.__version__} on {name}"


def sides(shape: Any) -> tuple[int, ...]:
    return tuple(-1 if side is None else int(side) for side in shape)


def last_line(error: BaseException) -> str:
    """The last line of the message that does not name a node, without the names of operators."""
    words = re.sub(r"\{\{.*?\}\}|\[Op:\w+\](?: name:)?", "", str(error))
    lines = [line.strip() for line in words.splitlines()]
    found = [line for line in lines if line and not line.startswith("[[")] or [type(error).__name__]
    return shortened(found[-1].rstrip("."))


def first_line(error: BaseException) -> str:
    """The first line of the message, with the next if it ends in a colon, without the names of operators.

    For an error of AutoGraph, which begins with a traceback, it is the last line.
    """
    text = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() of a KeyError adds quotes
    words = re.sub(r"\{\{.*?\}\}|\[Op:\w+\](?: name:)?", "", str(text))
    lines = [line.strip() for line in words.splitlines() if line.strip()] or [type(error).__name__]
    if lines[0] == "in user code:":
        return shortened(lines[-1])
    return shortened(" ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(":"))
