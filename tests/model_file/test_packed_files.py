from __future__ import annotations

import io
import zipfile

import pytest
from agents.models_on_disk import BARE_DIGITS, DIGITS

from agent.errors import IncompleteModelError
from agent.model_file.packed_files import PackedFiles

LARGE = bytes((1 << 20) + 1)


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO(BARE_DIGITS)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_read_refuses_more_than_a_megabyte_by_default() -> None:
    packed = PackedFiles(zipped({"image.png": LARGE}))
    with pytest.raises(IncompleteModelError, match=r"image\.png is larger than 1 MB"):
        packed.read("image.png")
    assert packed.read("image.png", max_bytes=2 << 20) == LARGE
    with pytest.raises(IncompleteModelError, match=r"image\.png is larger than 2 MB"):
        PackedFiles(zipped({"image.png": LARGE * 2})).read("image.png", max_bytes=2 << 20)


def test_packed_files_are_empty_without_an_archive() -> None:
    assert PackedFiles(DIGITS[: DIGITS.rindex(b"PK\x03\x04")]).names == ()
