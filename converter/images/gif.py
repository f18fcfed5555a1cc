"""GIF: read as Keras reads it, which the agent never does."""

from __future__ import annotations

import struct

from agent.errors import ImageDamagedError, ImageTooLargeError
from agent.image import MAX_PIXELS, Image
from agent.runtimes.tensorflow import import_tensorflow


def is_gif(content: bytes) -> bool:
    return content.startswith((b"GIF87a", b"GIF89a"))


def decode_gif(content: bytes) -> Image:
    """The first frame. Raises ImageDamagedError and ImageTooLargeError.

    TensorFlow decodes it, as in Keras' image_dataset_from_directory: OpenCV colors transparent pixels differently.
    """
    width, height = struct.unpack_from("<HH", content.ljust(10, b"\0"), 6)
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(f"The GIF has {width} x {height} pixels; at most {MAX_PIXELS} are allowed. Shrink it.")
    tf = import_tensorflow()
    try:
        pixels = tf.io.decode_image(content, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ImageDamagedError("The GIF is damaged or truncated and cannot be decoded. Copy it again.") from error
    return Image(pixels)
