"""GIF images in the user's folders, compared with Keras and with the pixels they were made from."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.errors import ImageDamagedError, ImageTooLargeError
from converter.images.gif import decode_gif
from converter.images.image_folder import list_images

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

PALETTE = np.array([(200, 10, 20), (10, 200, 30), (20, 30, 220), (250, 250, 250)], np.uint8)
FRAMES = np.random.default_rng(0).integers(0, 4, (2, 9, 12))
tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")


def gif_of(*frames: npt.NDArray[np.int64], transparent: int | None = None) -> bytes:
    """Uncompressed LZW: every second code is a clear code, so codes keep three bits."""
    height, width = frames[0].shape
    content = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x81, 0, 0) + PALETTE.tobytes()
    for frame in frames:
        control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, int(transparent is not None), 10, transparent or 0, 0)
        bits = "".join(f"{code:03b}"[::-1] for index in frame.ravel() for code in (4, index)) + "101"
        data = int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")
        blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
        content += control + struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, 2) + blocks + b"\0"
    return content + b";"


@pytest.mark.parametrize(
    "content",
    [gif_of(FRAMES[0]), gif_of(FRAMES[0]).replace(b"GIF89a", b"GIF87a"), gif_of(*FRAMES), gif_of(*FRAMES[::-1])],
)
def test_gif_gives_the_pixels_of_its_first_frame(content: bytes) -> None:
    first = FRAMES[1] if content == gif_of(*FRAMES[::-1]) else FRAMES[0]
    image = decode_gif(content)
    assert image.color == "rgb"
    np.testing.assert_array_equal(image.pixels, PALETTE[first])


@pytest.mark.parametrize("transparent", [None, 2])
def test_gif_in_a_folder_has_the_pixels_that_keras_trains_on(transparent: int | None, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.GIF").write_bytes(gif_of(*FRAMES[number:], transparent=transparent))
    keras = tf.keras.utils.image_dataset_from_directory(
        tmp_path, image_size=FRAMES[0].shape, shuffle=False, verbose=False
    )
    folder = list_images(tmp_path)
    assert list(folder.class_names) == keras.class_names
    ours = [image.read(smallest_side=8).pixels for image in folder.images]
    np.testing.assert_array_equal(ours, np.concatenate([images for images, _ in keras]))


@pytest.mark.parametrize("length", [6, 9, 20, 60])
def test_truncated_gif_is_refused(length: int) -> None:
    with pytest.raises(ImageDamagedError, match=r"^The GIF is damaged or truncated"):
        decode_gif(gif_of(FRAMES[0])[:length])


def test_gif_that_claims_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageTooLargeError, match=r"^The GIF has 65535 x 65535 pixels"):
        decode_gif(b"GIF89a" + b"\xff" * 4 + gif_of(FRAMES[0])[10:])
