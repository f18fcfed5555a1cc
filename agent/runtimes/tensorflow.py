"""TensorFlow: imported only when it is needed, quiet and sparing with GPU memory."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator


def import_tensorflow() -> Any:
    """Takes seconds the first time. Raises ModelError with the command that installs it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with interrupts_held():
            import tensorflow as tf  # noqa: PLC0415  (seconds and hundreds of megabytes)
    except ImportError as error:
        raise _not_installed("TensorFlow", error) from error
    with suppress(RuntimeError):  # of a GPU in use already: its memory was taken by then
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, enable=True)
    return tf


def import_keras_2() -> Any:
    """Also registers the classes that Keras 2 saved, without which its SavedModels do not load. ModelError."""
    try:
        import tf_keras  # noqa: PLC0415  (only models of Keras 2 need it)
    except ImportError as error:
        raise _not_installed("tf-keras, which reads what Keras 2 saved,", error) from error
    return tf_keras


def _not_installed(what: str, error: ImportError) -> ModelError:
    absent = isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", "tf_keras")
    why = "is not installed" if absent else f"is installed and cannot be loaded ({error})"
    return ModelError(f"{what} {why}. Install it: pip install 'edge-agent[converter]'.")


@contextmanager
def interrupts_held() -> Iterator[None]:
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


def sides(shape: Any) -> tuple[int, ...]:
    return tuple(-1 if side is None else int(side) for side in shape)


def first_line(error: BaseException) -> str:
    """Of what AutoGraph raises the last, since it begins with where it happened."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() of a KeyError has quotes
    lines = [line.strip() for line in str(text).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if lines[0] == "in user code:" else 0][:300].rstrip(".")
