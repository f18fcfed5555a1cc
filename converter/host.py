"""Host: the TensorFlow of the machine that converts, quiet and sparing with GPU memory."""

from __future__ import annotations

import os
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
        import tensorflow as tf  # noqa: PLC0415  (seconds and hundreds of megabytes, that evaluate may not need)
    except ImportError:
        raise ConverterError(
            "TensorFlow is not installed, and what it wrote only it can read. Install it: "
            "pip install 'edge-agent[converter]'."
        ) from None
    with suppress(RuntimeError):  # of a GPU in use already: its memory was taken by then
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, enable=True)
    return tf


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
