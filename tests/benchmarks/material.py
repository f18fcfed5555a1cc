"""Material: the models and pictures for all measurements."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from agent.model_file.metadata import ModelFile, read_model_file
from converter.packing.metadata import pack_metadata

if TYPE_CHECKING:
    from agent.image import Pixels

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
_ASSETS = ROOT.parent / "shared" / "assets"
OWN_MODEL = CACHE / "mobilenet_v2_int8.tflite"
_PUBLISHED_MODEL = _ASSETS / "models" / "mobilenet_v2_224_uint8" / "mobilenet_v2_1.0_224_quant.tflite"
_PHOTO = _ASSETS / "photos" / "cat_720p.jpg"
_VIDEO = ROOT / "demo" / "digits.mp4"

SIZES = ((640, 427), (1920, 1080))
BOUNDARY = "edge-agent-benchmark"


def models() -> dict[str, Path]:
    """The available models by name, the main one first; may be empty."""
    paths = {"MobileNetV2 int8 of TensorFlow 2.21": OWN_MODEL, "MobileNetV2 uint8 as published": _PUBLISHED_MODEL}
    return {name: path for name, path in paths.items() if path.is_file()}


@functools.cache
def model_version(path: Path, number: int) -> bytes:
    """The model at `path` with different metadata, so that it is another version of the same size."""
    model = read_model_file(path.read_bytes())
    return _packed(model, number)


def _packed(model: ModelFile, number: int) -> bytes:
    assert model.settings.labels is not None
    return pack_metadata(
        model.content,
        labels=model.settings.labels,
        mean=[127.5],
        std=[127.5],
        color="rgb",
        name="mobilenet",
        version=str(number),
    )


def picture(width: int, height: int) -> Pixels:
    """RGB pixels of a photo from the assets or, without assets, of a frame of the demo video."""
    pixels = cv2.imread(str(_PHOTO)) if _PHOTO.is_file() else cv2.VideoCapture(str(_VIDEO)).read()[1]
    resized: Pixels = cv2.cvtColor(cv2.resize(pixels, (width, height)), cv2.COLOR_BGR2RGB)
    return resized


def jpeg(width: int, height: int) -> Path:
    path = CACHE / f"{width}x{height}.jpg"
    CACHE.mkdir(exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(picture(width, height), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return path


def form(image: Path) -> Path:
    """The body that `curl -F file=@image` would send, with BOUNDARY."""
    path = image.with_suffix(".form")
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{image.name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    path.write_bytes(head.encode() + image.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode())
    return path
