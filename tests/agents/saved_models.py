"""SavedModels for tests: small ones that TensorFlow writes in a moment; they need .venv-converter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

COLORS = {"blue": (50, 60, 190), "gray": (120, 120, 120), "green": (50, 180, 60), "red": (190, 50, 50)}  # RGB
SIDE = 16


def write_saved_model(path: Path, *, labels: Sequence[str] | None = tuple(COLORS), sharpness: float = 0.05) -> Path:
    """A SavedModel that says which of the colors an RGB picture of 0 to 255 has; its scores differ by `sharpness`.

    With `labels`, it has them and its settings in assets.extra.
    """
    import tensorflow as tf  # noqa: PLC0415  (only in .venv-converter)

    class Colors(tf.Module):  # type: ignore[misc]  # mypy does not follow TensorFlow
        def __init__(self) -> None:
            super().__init__()
            self.colors = tf.Variable(list(COLORS.values()), dtype=tf.float32)
            self.sharpness = tf.Variable(sharpness)

        @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="image")])  # type: ignore[untyped-decorator]
        def scores(self, image: Any) -> Any:
            color = tf.reduce_mean(image, axis=(1, 2))
            distances = tf.norm(color[:, None] - self.colors[None], axis=2)
            return {"scores": tf.nn.softmax(-self.sharpness * distances)}

    module = Colors()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.scores})
    if labels is not None:
        write_extra(path, labels=labels, settings={"mean": 0, "std": 1, "score": "probability"})
    return path


def save_function(path: Path, call: Callable[[Any, Any], Any], *spec: Any, name: str = "image") -> Path:
    """A SavedModel whose serving_default is `call` of TensorFlow and of its input, which is called `name`.

    `spec` has the shape and the type of the input. `call` returns a tensor, the `scores`, or a dict of tensors.
    """
    import tensorflow as tf  # noqa: PLC0415  (only in .venv-converter)

    def serve(**given: Any) -> Any:
        found = call(tf, given[name])
        return found if isinstance(found, dict) else {"scores": found}

    module = tf.Module()
    module.serve = tf.function(serve)
    concrete = module.serve.get_concrete_function(**{name: tf.TensorSpec(*spec, name=name)})
    tf.saved_model.save(module, str(path), signatures={"serving_default": concrete})
    return path


def write_extra(path: Path, *, labels: Sequence[str] | None = None, **additions: Any) -> None:
    """Writes labels.txt and edge_agent.json into its assets.extra."""
    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    if labels is not None:
        (extra / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    if additions:
        (extra / "edge_agent.json").write_text(json.dumps(additions))


def write_warmup_requests(path: Path, requests: Sequence[tuple[str, dict[str, Any]]]) -> Path:
    """Writes the file from which TensorFlow Serving warms up: each request has a signature's name and its inputs."""
    import tensorflow as tf  # noqa: PLC0415  (only in .venv-converter)

    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    file = extra / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in requests:
            tensors = {name: tf.make_tensor_proto(value).SerializeToString() for name, value in inputs.items()}
            entries = (_message(2, _message(1, name.encode()) + _message(2, value)) for name, value in tensors.items())
            request = _message(1, _message(1, b"m") + _message(3, signature.encode())) + b"".join(entries)
            writer.write(_message(6, _message(1, request)))
    return file


def _message(number: int, content: bytes) -> bytes:
    """A field of a protobuf message; those of TensorFlow Serving are described in its prediction_log.proto."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content
