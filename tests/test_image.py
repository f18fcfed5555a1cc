from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import pytest

from agent.errors import ImageDamagedError, ImageError, ImageFormatError, ImageTooLargeError
from agent.image import Image, decode, image_size
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from pathlib import Path

    from agent.classification import Category
    from agent.image import Pixels

JPEG_START = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"


def picture(height: int, width: int) -> Pixels:
    """Red increases to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return pixels


def encoded(suffix: str, height: int = 30, width: int = 40) -> bytes:
    there, content = cv2.imencode(suffix, picture(height, width))
    assert there
    return content.tobytes()


def frame_header(height: int, width: int, marker: int = 0xC0) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)


def classify(assets: Path, content: bytes) -> Category:
    model = read_model_file(next((assets / "models" / "mobilenet_v2_224_uint8").glob("*.tflite")).read_bytes())
    classifier = TFLiteClassifier(model, model.settings, threads=1)
    image = decode(content, smallest_side=classifier.smallest_side)
    scores, _ = classifier.scores(image)
    (category,) = scores.best(1)
    return category


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_each_format_is_decoded_to_its_pixels(suffix: str) -> None:
    content = encoded(suffix)
    assert image_size(content) == (40, 30)
    image = decode(content).to_color("bgr")
    assert (image.width, image.height) == (40, 30)
    assert np.abs(image.pixels.astype(int) - picture(30, 40)).mean() < 6


def test_size_of_lossless_webp_is_read() -> None:
    there, content = cv2.imencode(".webp", picture(30, 40), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert there
    assert content.tobytes()[12:16] == b"VP8L"
    assert image_size(content.tobytes()) == (40, 30)


def test_size_of_extended_webp_is_read() -> None:
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (4999).to_bytes(3, "little") + (2999).to_bytes(3, "little")
    assert image_size(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk) == (5000, 3000)


def test_bitmap_with_rows_from_the_top_is_upright() -> None:
    content = bytearray(encoded(".bmp"))
    struct.pack_into("<i", content, 22, -30)
    assert image_size(bytes(content)) == (40, 30)
    turned = decode(bytes(content)).to_color("bgr").pixels
    assert np.array_equal(turned, picture(30, 40)[::-1])


def test_bitmap_of_os2_is_decoded() -> None:
    head = b"BM" + struct.pack("<IHHI", 26 + 30 * 120, 0, 0, 26) + struct.pack("<IHHHH", 12, 40, 30, 1, 24)
    content = head + picture(30, 40)[::-1].tobytes()
    assert image_size(content) == (40, 30)
    assert np.array_equal(decode(content).pixels, picture(30, 40))


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(20), b"II*\0" + bytes(20), b"%PDF-1.7", b"\xff\xd8", b"{}"])
def test_other_formats_are_refused(content: bytes) -> None:
    with pytest.raises(ImageFormatError, match="Send a JPEG, PNG, WebP or BMP"):
        decode(content)


@pytest.mark.parametrize(
    ("major", "compatible", "sentence"),
    [
        (b"heic", b"mif1heic", "HEIC images are not supported. On an iPhone, choose Settings > Camera > Formats"),
        (b"mif1", b"mif1heix", "HEIC images are not supported"),
        (b"msf1", b"hevcmsf1", "HEIC images are not supported"),
        (b"avif", b"mif1miaf", "AVIF images are not supported. On the phone, save or share the picture as JPEG"),
        (b"mif1", b"mif1avif", "AVIF images are not supported"),
        (b"isom", b"isommp41", "The image format is not supported"),
    ],
)
def test_picture_of_a_phone_is_refused_with_what_to_do(major: bytes, compatible: bytes, sentence: str) -> None:
    box = struct.pack(">I4s4sI8s", 24, b"ftyp", major, 0, compatible)
    with pytest.raises(ImageFormatError, match=sentence):
        decode(box + b"heic avif" + bytes(100))


@pytest.mark.parametrize("start", [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"], ids=["file", "codestream"])
def test_jpeg_2000_is_refused_before_opencv_sees_it(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    """OpenCV 4.11, which is installed with tflite-runtime, has a memory fault in its decoder (CVE-2025-53644)."""
    content = start + bytes(100)
    monkeypatch.delattr("cv2.imdecode")
    with pytest.raises(ImageFormatError, match="Send a JPEG, PNG, WebP or BMP"):
        decode(content)


@pytest.mark.parametrize("form", [b"WAVEfmt ", b"AVI LIST", b"WEBPJUNK"])
def test_riff_file_that_is_not_webp_is_refused(form: bytes) -> None:
    with pytest.raises(ImageFormatError, match="RIFF file is not a WebP"):
        decode(b"RIFF" + struct.pack("<I", 100) + form + bytes(92))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_image_truncated_anywhere_is_an_image_error(suffix: str) -> None:
    content = encoded(suffix)
    for end in range(len(content) // 2):
        with pytest.raises(ImageError):
            decode(content[:end])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_image_without_its_second_half_is_damaged(suffix: str) -> None:
    content = encoded(suffix, 300, 400)
    for smallest_side in (None, 50):
        with pytest.raises(ImageDamagedError, match="cannot be decoded"):
            decode(content[: len(content) // 2], smallest_side=smallest_side)


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("restart_interval", [0, 4])
@pytest.mark.parametrize("smallest_side", [None, 50])
def test_jpeg_without_its_end_marker_is_decoded(quality: int, restart_interval: int, smallest_side: int | None) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, restart_interval]
    content = cv2.imencode(".jpg", picture(300, 400), options)[1].tobytes()
    whole = decode(content, smallest_side=smallest_side).pixels
    for cut in (content[:-2], content[:-1], content[:-2] + bytes(30), content[:-2] + b"\r\n--frame\r\n"):
        assert np.array_equal(decode(cut, smallest_side=smallest_side).pixels, whole)


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_jpeg_that_lacks_pixels_is_damaged(options: list[int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    content = cv2.imencode(".jpg", noise, options)[1].tobytes()
    for missing in range(4, len(content) - 700, 7):
        with pytest.raises(ImageDamagedError):
            decode(content[:-missing])


@pytest.mark.parametrize(
    "content",
    [
        JPEG_START + frame_header(65535, 65535),
        JPEG_START + b"\xff\xff\xff" + frame_header(65535, 65535, 0xC2),
        JPEG_START + b"\xff\xe1\0\x16" + frame_header(8, 8) + b"\0" + frame_header(65535, 65535),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 1 << 31, 1 << 31),
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 1 << 30, -(1 << 31)),
    ],
)
def test_header_that_claims_a_huge_image_is_refused(content: bytes) -> None:
    with pytest.raises(ImageTooLargeError, match=r"at most 67108864 pixels are allowed. Send a smaller image\."):
        decode(content)


def test_pixel_limit_allows_exactly_its_value() -> None:
    content = encoded(".png")
    assert decode(content, max_pixels=1200).width == 40
    with pytest.raises(ImageTooLargeError, match="40 x 30 pixels; at most 1199 pixels"):
        decode(content, max_pixels=1199)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff" + b"\xff\xe0\0\2" * 1_000_000,
        b"\xff\xd8\xff" + b"\xff\xd0" * 1_000_000,
        b"\xff\xd8\xff" + b"\0" * 5_000_000,
        b"\xff\xd8\xff" + b"\xff" * 5_000_000,
        JPEG_START + frame_header(0, 100),
        JPEG_START + b"\xff\xc4\0\x10" + frame_header(9, 9)[2:],
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 7),
        b"BM" + bytes(12) + struct.pack("<Iii", 40, -5, 5),
        b"BM" + bytes(12),
        b"RIFF" + bytes(4) + b"WEBPVP8 ",
    ],
)
def test_header_without_a_size_is_damaged(content: bytes) -> None:
    with pytest.raises(ImageDamagedError, match="its header has no size"):
        image_size(content)


def test_small_header_before_large_pixels_is_damaged() -> None:
    """The check reads the same header as the decoder, so a second header cannot hide a larger size."""
    content = bytearray(encoded(".jpg", 300, 400))
    at = bytes(content).index(b"\xff\xc0")
    content[at:at] = frame_header(8, 8)
    with pytest.raises(ImageDamagedError):
        decode(bytes(content))


@pytest.mark.parametrize(
    ("smallest_side", "width", "height"),
    [(None, 400, 300), (300, 400, 300), (151, 400, 300), (150, 200, 150), (75, 100, 75), (37, 50, 38), (1, 50, 38)],
)
def test_jpeg_is_decoded_no_smaller_than_requested(smallest_side: int | None, width: int, height: int) -> None:
    image = decode(encoded(".jpg", 300, 400), smallest_side=smallest_side)
    assert (image.width, image.height) == (width, height)


def test_other_formats_are_decoded_at_full_size() -> None:
    assert decode(encoded(".png", 300, 400), smallest_side=37).width == 400


def test_colors_convert_in_both_directions() -> None:
    bgr = Image(picture(30, 40), "bgr")
    assert bgr.to_color("bgr") is bgr
    rgb = bgr.to_color("rgb")
    assert np.array_equal(rgb.pixels, bgr.pixels[..., ::-1])
    assert np.array_equal(rgb.to_color("bgr").pixels, bgr.pixels)
    gray = rgb.to_color("gray")
    assert gray.pixels.shape == (30, 40)
    assert np.array_equal(gray.pixels, bgr.to_color("gray").pixels)
    for color in ("rgb", "bgr"):
        assert np.array_equal(gray.to_color(color).pixels, np.dstack([gray.pixels] * 3))


@pytest.mark.parametrize(
    ("region", "width", "height"),
    [
        ((0, 0, 1, 1), 40, 30),
        ((0.5, 0, 1, 1), 20, 30),
        ((0.25, 0.1, 0.75, 0.9), 20, 24),
        ((0.999, 0.999, 1, 1), 1, 1),
        ((0.5, 0.5, 0.5001, 0.5001), 1, 1),
    ],
)
def test_crop_keeps_the_region(region: tuple[float, float, float, float], width: int, height: int) -> None:
    image = Image(picture(30, 40), "bgr").crop(region)
    assert (image.width, image.height, image.color) == (width, height, "bgr")
    left, top = int(region[0] * 40), int(region[1] * 30)
    assert np.array_equal(image.pixels, picture(30, 40)[top : top + height, left : left + width])


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, -1), (180, 2), (270, 1)])
def test_rotation_is_clockwise(degrees: int, quarters: int) -> None:
    turned = Image(picture(30, 40), "bgr").rotate(degrees)
    assert np.array_equal(turned.pixels, np.rot90(picture(30, 40), quarters))


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("bad_empty.jpg", ImageFormatError, "format is not supported"),
        ("bad_text.jpg", ImageFormatError, "format is not supported"),
        ("bad_header_only.jpg", ImageDamagedError, "its header has no size"),
        ("bad_truncated.jpg", ImageDamagedError, "damaged or truncated"),
        ("bomb_30000x30000_1bit.png", ImageTooLargeError, "30000 x 30000 pixels"),
    ],
)
def test_bad_photo_is_refused_with_the_reason(assets: Path, name: str, error: type[ImageError], words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        decode((assets / "photos" / name).read_bytes(), smallest_side=224)
    assert caught.type is error


@pytest.mark.assets
def test_decompression_bomb_uses_little_memory(assets: Path) -> None:
    """Measured in a child process: 30000 x 30000 pixels are 2.7 GB when decoded."""
    program = """
import json, resource, sys
from agent.errors import ImageTooLargeError
from agent.image import MAX_PIXELS, cv2, decode, np
content = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(content)
except ImageTooLargeError:
    pass
else:
    sys.exit("decoded")
try:  # the second line of defense: OpenCV's own limit, for a header that lies
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
except cv2.error:
    pixels = None
assert pixels is None
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    bomb = assets / "photos" / "bomb_30000x30000_1bit.png"
    done = subprocess.run([sys.executable, "-c", program, str(bomb)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) < 50_000  # kB


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("parrot.jpg", "macaw"),
        ("parrot.webp", "macaw"),
        ("parrot_cmyk.jpg", "macaw"),
        ("parrot_palette.png", "macaw"),
        ("parrot_rgba.png", "macaw"),
        # Without colors this model confuses it with another bird, also when Pillow decodes it.
        ("parrot_gray.jpg", "vulture"),
        ("parrot_16bit_gray.png", "vulture"),
    ],
)
def test_parrot_is_recognized_in_every_format(assets: Path, name: str, label: str) -> None:
    content = (assets / "photos" / name).read_bytes()
    assert image_size(content) == (512, 929)
    image = decode(content)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (929, 512, 3)
    original = decode((assets / "photos" / "parrot.jpg").read_bytes())
    difference = image.to_color("gray").pixels.astype(int) - original.to_color("gray").pixels
    assert np.abs(difference).mean() < 6
    assert classify(assets, content).label == label


@pytest.mark.assets
def test_photo_with_exif_rotation_is_recognized(assets: Path) -> None:
    category = classify(assets, (assets / "photos" / "grace_hopper_exif6.jpg").read_bytes())
    assert category.label == "military uniform"
    assert category.score == pytest.approx(0.922, abs=0.09)


@pytest.mark.assets
def test_scene_is_the_same_for_every_exif_orientation(assets: Path) -> None:
    contents = [(assets / "photos" / "exif" / f"Landscape_{n}.jpg").read_bytes() for n in (1, 3, 6, 8)]
    images = [decode(content, smallest_side=224) for content in contents]
    for image in images:
        assert image.width > image.height
        assert image.pixels.shape == images[0].pixels.shape
        assert np.abs(image.pixels.astype(int) - images[0].pixels).mean() < 6
    categories = [classify(assets, content) for content in contents]
    assert len({category.label for category in categories}) == 1
    assert [c.score for c in categories] == pytest.approx([categories[0].score] * 4, abs=0.15)  # four different JPEGs


@pytest.mark.assets
def test_single_pixel_is_an_image(assets: Path) -> None:
    image = decode((assets / "photos" / "tiny_1x1.png").read_bytes(), smallest_side=224)
    assert (image.width, image.height) == (1, 1)


@pytest.mark.parametrize("color", ["bgr", "rgb", "gray"])
def test_jpeg_of_an_image_is_no_larger_than_requested(color: Literal["bgr", "rgb", "gray"]) -> None:
    pixels = picture(60, 90) if color != "gray" else picture(60, 90)[:, :, 0]
    image = Image(pixels, color)
    assert decode(image.to_jpeg(max_side=1000)).pixels.shape == (60, 90, 3)
    assert decode(image.to_jpeg(max_side=45)).pixels.shape == (30, 45, 3)
    assert decode(Image(pixels[:1], color).to_jpeg(max_side=4)).pixels.shape == (1, 4, 3)
    difference = decode(image.to_jpeg(max_side=1000)).pixels.astype(int) - image.to_color("bgr").pixels
    assert abs(difference).mean() < 12


def test_jpeg_with_endless_scans_is_refused_before_it_is_decoded() -> None:
    """131 kB with 1,000 scans of 4096 x 4096 pixels would keep a worker busy for 6 s, and 8 MB for 20 minutes."""
    pixels = np.zeros((512, 512, 3), np.uint8)
    content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = content[content.rindex(b"\xff\xda") : -2]
    scans = content.count(b"\xff\xda")
    assert decode(content[:-2] + last * (100 - scans) + content[-2:]).width == 512
    with pytest.raises(ImageDamagedError, match="more than 100 scans"):
        decode(content[:-2] + last * (101 - scans) + content[-2:])


def test_scans_hidden_behind_a_comment_are_counted() -> None:
    """A scan of all components in a comment must not pass for the first one of the file."""
    content = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    hidden = b"\xff\xda\0\x0c\x03"
    comment = b"\xff\xfe" + (len(hidden) + 2).to_bytes(2, "big") + hidden
    last = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageDamagedError, match="more than 100 scans"):
        decode(content[:2] + comment + content[2:-2] + last * 101 + content[-2:])


def test_ordinary_jpeg_may_contain_the_bytes_of_scans() -> None:
    """As the thumbnails and profiles in its segments do; the decoder does not look into them."""
    content = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    comment = b"\xff\xfe" + (302 + 2).to_bytes(2, "big") + b"\xff\xda" * 151
    assert decode(content[:2] + comment + content[2:]).width == 64


def test_png_with_a_chunk_longer_than_the_file_is_refused() -> None:
    content = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    at = content.index(b"IDAT") - 4
    longer = (int.from_bytes(content[at : at + 4], "big") + 13 + 4).to_bytes(4, "big")
    with pytest.raises(ImageDamagedError, match="damaged or truncated"):
        decode(content[:at] + longer + content[at + 4 :])
    with pytest.raises(ImageDamagedError, match="damaged or truncated"):
        decode(content[:at] + b"\0\0\0\0abcd\0\0\0\0" * 70_000 + content[at:])


def test_png_with_bytes_after_its_end_is_decoded() -> None:
    content = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    assert decode(content + b"\xff" * 20).width == 8
