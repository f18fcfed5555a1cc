"""Image: pixels with their color order, and decoding of untrusted bytes."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

# OpenCV reads this once, at import. Headers are checked before decoding; this limit covers a header that lies.
MAX_PIXELS = 1 << 26
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

import cv2  # noqa: E402  (the limit above must be set first)

from agent.errors import ImageDamagedError, ImageFormatError, ImageTooLargeError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Pixels: TypeAlias = npt.NDArray[np.uint8]

Encoded: TypeAlias = bytes | bytearray  # an image file
Color = Literal["rgb", "bgr", "gray"]
JPEG_START = b"\xff\xd8\xff"

_SHIFT = 8  # bits of a fraction of a pixel
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_CONVERSIONS = {
    ("rgb", "bgr"): cv2.COLOR_RGB2BGR,
    ("bgr", "rgb"): cv2.COLOR_BGR2RGB,
    ("rgb", "gray"): cv2.COLOR_RGB2GRAY,
    ("bgr", "gray"): cv2.COLOR_BGR2GRAY,
    ("gray", "rgb"): cv2.COLOR_GRAY2RGB,
    ("gray", "bgr"): cv2.COLOR_GRAY2BGR,
}


@dataclass(frozen=True, slots=True)
class Image:
    """uint8 pixels, 0 to 255: height x width x 3 in `color` order, or height x width for gray."""

    pixels: Pixels
    color: Color = "rgb"

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def to_color(self, color: Color) -> Image:
        if color == self.color:
            return self
        return Image(_uint8(cv2.cvtColor(self.pixels, _CONVERSIONS[self.color, color])), color)

    def crop(self, region: tuple[float, float, float, float]) -> Image:
        """Keeps `region`: left, top, right, bottom as fractions of the sides; at least one pixel; no copy."""
        left, top, right, bottom = region
        x0, y0 = int(left * self.width), int(top * self.height)
        x1, y1 = max(x0 + 1, round(right * self.width)), max(y0 + 1, round(bottom * self.height))
        return Image(self.pixels[y0:y1, x0:x1], self.color)

    def rotate(self, degrees: int) -> Image:
        """Turns clockwise by 0, 90, 180 or 270 degrees."""
        if degrees == 0:
            return self
        return Image(_uint8(cv2.rotate(self.pixels, _ROTATIONS[degrees])), self.color)

    def mirrored(self) -> Image:
        """With left and right exchanged."""
        return Image(_uint8(cv2.flip(self.pixels, 1)), self.color)

    def filled(self, polygons: Iterable[Sequence[tuple[float, float]]]) -> Image:
        """A copy in which each polygon is black, with every pixel that it touches and one more around it.

        Corners are fractions of the width and the height. The sides of a reduced picture are rounded up, so a pixel may
        have parts of what lies in the next one.
        """
        size = np.array([self.width, self.height])
        # From the corner of the picture to the middle of its first pixel, which is OpenCV's origin
        shapes = [np.rint((np.array(polygon) * size - 0.5) * (1 << _SHIFT)).astype(np.int32) for polygon in polygons]
        if not shapes:
            return self
        pixels = self.pixels.copy()
        for shape in shapes:
            cv2.fillPoly(pixels, [shape], (0, 0, 0), shift=_SHIFT)
            cv2.polylines(pixels, [shape], isClosed=True, color=(0, 0, 0), thickness=3, shift=_SHIFT)
        return Image(pixels, self.color)

    def to_jpeg(self, *, max_side: int, quality: int = 85) -> bytes:
        """Scaled down if a side has more than `max_side` pixels."""
        scale = max_side / max(self.width, self.height)
        pixels = self.to_color("bgr").pixels
        if scale < 1:
            size = max(1, round(self.width * scale)), max(1, round(self.height * scale))
            pixels = _uint8(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return encoded.tobytes()

    def to_png(self) -> bytes:
        """The exact pixels, compressed little but fast."""
        _, encoded = cv2.imencode(".png", self.to_color("bgr").pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return encoded.tobytes()


def has_image_name(name: str) -> bool:
    """Whether a file with that name counts as an image: it has the extension of one and is not hidden."""
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def decode(content: Encoded, *, max_pixels: int = MAX_PIXELS, smallest_side: int | None = None) -> Image:
    """Decodes a JPEG, PNG, WebP or BMP as 8-bit color, rotated upright by its EXIF orientation.

    The header is read before anything is decoded. A JPEG is decoded at half, a quarter or an eighth of its
    size if both sides stay at least `smallest_side`: the discrete cosine transform allows this at no cost.
    Raises ImageFormatError, ImageTooLargeError, ImageDamagedError.
    """
    width, height = check_header(content, max_pixels=max_pixels)
    flags = cv2.IMREAD_COLOR_BGR if hasattr(cv2, "IMREAD_COLOR_BGR") else cv2.IMREAD_COLOR
    if smallest_side is not None and content.startswith(JPEG_START):
        flags = _REDUCED.get(_reduction(min(width, height), smallest_side), flags)
    pixels = _imdecode(content, flags)
    if pixels is None and content.startswith(JPEG_START):
        pixels = _decode_without_end(content, flags)
    if pixels is None:
        raise ImageDamagedError(_DAMAGED)
    return Image(pixels, "bgr")


def check_header(content: Encoded, *, max_pixels: int) -> tuple[int, int]:
    """The width and height of what may be decoded. Raises what decode() raises, except for damaged pixels."""
    width, height = image_size(content)
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"The image has {width} x {height} pixels; at most {max_pixels} pixels are allowed. Send a smaller image."
        )
    if content.startswith(_PNG) and not _png_is_whole(content):
        raise ImageDamagedError(_DAMAGED)
    if content.startswith(JPEG_START):
        _check_scans(content)
    return width, height


def _check_scans(content: Encoded) -> None:
    """Counts only if there can be several: that takes 0.1 ms for 130 kB."""
    try:
        if _has_one_scan(content):
            return
    except (struct.error, IndexError):  # truncated
        pass
    if content.count(_SCAN) > _MAX_SCANS:
        raise ImageDamagedError(f"The JPEG has more than {_MAX_SCANS} scans. Save it again as an ordinary JPEG.")


def _imdecode(content: Encoded, flags: int) -> Pixels | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None
    return None if pixels is None else _uint8(pixels)


def _decode_without_end(content: Encoded, flags: int) -> Pixels | None:
    """Decodes a JPEG that lacks only its end marker, as some small cameras (ESP32-CAM) send it; else None.

    The decoder reads a few bytes ahead, so it gets some. If the picture is complete, it does not matter which; if
    data is missing, they are taken for it, and each gives another picture.
    """
    content = content.rstrip(b"\xff")  # of a cut end marker
    first = _imdecode(content + _PADDINGS[0], flags)
    if first is None:
        return None
    others = (_imdecode(content + padding, flags) for padding in _PADDINGS[1:])
    return first if all(other is not None and np.array_equal(first, other) for other in others) else None


def has_image_signature(content: Encoded) -> bool:
    """Whether it begins like a JPEG, PNG, WebP or BMP."""
    return any(content.startswith(signature) for signature in _SIZE_READERS) and (
        not content.startswith(b"RIFF") or content[8:12] == b"WEBP"
    )


def image_size(content: Encoded) -> tuple[int, int]:
    """Width and height from the header, before any rotation by EXIF."""
    for signature, read_size in _SIZE_READERS.items():
        if content.startswith(signature):
            try:
                width, height = read_size(content)
            except (struct.error, IndexError):
                width = height = 0
            if width < 1 or height < 1:
                raise ImageDamagedError("The image is truncated: its header has no size. Send the whole file.")
            return width, height
    raise ImageFormatError(_unsupported(content))


def _unsupported(content: Encoded) -> str:
    brands = (
        content[8 : min(64, struct.unpack_from(">I", content.ljust(4, b"\0"))[0])] if content[4:8] == b"ftyp" else b""
    )
    if any(brand in brands for brand in _AVIF_BRANDS):
        return "AVIF images are not supported. On the phone, save or share the picture as JPEG, and send that."
    if any(brand in brands for brand in _HEIC_BRANDS):
        return (
            "HEIC images are not supported. On an iPhone, choose Settings > Camera > Formats > Most Compatible; on "
            "Android, turn off high efficiency pictures (HEIF) in the camera's settings. Or send it as JPEG."
        )
    return "The image format is not supported. Send a JPEG, PNG, WebP or BMP."


def _reduction(side: int, smallest_side: int) -> int:
    return next((n for n in (8, 4, 2) if side // n >= smallest_side), 1)


def _uint8(array: npt.NDArray[np.generic]) -> Pixels:
    return array.astype(np.uint8, copy=False)


_AVIF_BRANDS = (b"avif", b"avis", b"avio")
# Apple's files also name the general brand mif1; iPhones have heic, and some Android phones hevc.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2")
_PADDINGS = tuple(
    bytes.fromhex(digits)
    for digits in (
        "74de90dcedc8787483db973130ce847a",
        "a29ecc3019734e25188ad0e4b2a30b99",
        "fc66f774a8be9ea729a004d58811100a",
    )
)
_DAMAGED = "The image is damaged or truncated and cannot be decoded. Send it again."
_SCAN = b"\xff\xda"
_MAX_SCANS = 100  # ordinary files have 1 to 12; each takes 6 ms for 16 million pixels and may be 30 bytes long
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PNG_CHUNKS = 1 << 16  # a malicious file may have millions of empty chunks
_MARKER = re.compile(rb"\xff[\x01-\xfe]")


def _jpeg_size(content: Encoded) -> tuple[int, int]:
    """From the frame header, SOF0 to SOF15 without DHT, JPG and DAC (ITU-T T.81, B.1.1.3)."""
    for marker, at in _jpeg_segments(content):
        if _is_frame(marker):
            height, width = struct.unpack_from(">HH", content, at + 3)
            return width, height
    return 0, 0


def _has_one_scan(content: Encoded) -> bool:
    """Whether its frame is not progressive and the first scan has all components: the decoder then stops after it."""
    components = 0
    for marker, at in _jpeg_segments(content):
        if _is_frame(marker):
            components = content[at + 7] if marker in (0xC0, 0xC1) else 0
        elif marker == 0xDA:
            return content[at + 2] == components
    return False


def _jpeg_segments(content: Encoded) -> Iterator[tuple[int, int]]:
    """Each marker, and the position of the length after it. Raises IndexError or struct.error at the end."""
    at = 2
    for _ in range(1000):  # a malicious file may have millions of empty segments
        found = _MARKER.search(content, at)
        if found is None:
            break
        marker, at = content[found.start() + 1], found.end()
        yield marker, at
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:  # these markers have no length field
            at += int(struct.unpack_from(">H", content, at)[0])


def _is_frame(marker: int) -> bool:
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _png_size(content: Encoded) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def _png_is_whole(content: Encoded) -> bool:
    """Whether every chunk ends within the file: OpenCV allocates the stated length, up to 4 GB, before reading."""
    at, end = len(_PNG), len(content)
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 12 > end:  # length, type and checksum
            return False
        if content[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int(struct.unpack_from(">I", content, at)[0])
    return False


def _bmp_size(content: Encoded) -> tuple[int, int]:
    if struct.unpack_from("<I", content, 14)[0] == 12:  # the OS/2 header has 16-bit sides
        width, height = struct.unpack_from("<HH", content, 18)
    else:
        width, height = struct.unpack_from("<ii", content, 18)
    return width, abs(height)  # negative: rows from the top down


def _webp_size(content: Encoded) -> tuple[int, int]:
    """Reads the header of a lossy, lossless or extended file (RFC 9649)."""
    chunk = content[8:16]
    if chunk == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"WEBPVP8L":
        bits = int(struct.unpack_from("<I", content, 21)[0])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"WEBPVP8X":
        width, height = content[24:27], content[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    raise ImageFormatError("This RIFF file is not a WebP image. Send a JPEG, PNG, WebP or BMP.")


_SIZE_READERS = {
    JPEG_START: _jpeg_size,
    _PNG: _png_size,
    b"BM": _bmp_size,
    b"RIFF": _webp_size,
}
