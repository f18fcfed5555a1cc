"""Host: the TensorFlow of the machine that converts, quiet and sparing with GPU memory."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from converter.errors import ConverterError

if TYPE_CHECKING:
    from collections.abc import Iterator


def import_tensorflow() -> Any:
    """Takes seconds the first time. Raises ConverterError with the command that installs it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _interrupts_held():
            import tensorflow as tf  # noqa: PLC0415  (seconds and hundreds of megabytes, that evaluate may not need)
    except ImportError as error:
        raise _not_installed("TensorFlow", error) from error
    with suppress(RuntimeError):  # of a GPU in use already: its memory was taken by then
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, enable=True)
    return tf


def import_keras_2() -> Any:
    """Also registers the classes that Keras 2 saved, without which its SavedModels do not load. ConverterError."""
    try:
        import tf_keras  # noqa: PLC0415  (only models of Keras 2 need it)
    except ImportError as error:
        raise _not_installed("tf-keras, which reads what Keras 2 saved,", error) from error
    return tf_keras


def _not_installed(what: str, error: ImportError) -> ConverterError:
    absent = isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", "tf_keras")
    why = "is not installed" if absent else f"is installed and cannot be loaded ({error})"
    return ConverterError(f"{what} {why}. Install it: pip install 'edge-agent[converter]'.")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C takes effect at the end: inside, TensorFlow's C++ would turn it into an ImportError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def device_name() -> str:
    """What TensorFlow computes on: `TensorFlow 2.21.0 on NVIDIA H200`, or `... on CPU`."""
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    return f"TensorFlow {tf.__version__} on {device}"


@contextmanager
def native_noise_hidden() -> Iterator[TextIO]:
    """Gives the terminal's standard error, while everything else that is written there, from C++ too, is dropped.

    TensorFlow and LLVM write dozens of lines past Python's logging and warnings.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with Path(os.devnull).open("w") as nowhere, os.fdopen(terminal, "w") as stream:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield stream
        finally:
            sys.stderr.flush()
            stream.flush()
            os.dup2(terminal, 2)
