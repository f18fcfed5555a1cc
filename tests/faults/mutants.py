"""Mutants: model files damaged by bit rot, broken copies or mix-ups, reproducible from a seed."""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

# New bytes by their position in the file.
Patch: TypeAlias = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`kind` is a short name of the damage."""

    kind: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def byte_mutants(model: bytes, random: Random) -> Iterator[Mutant]:
    """An endless series without repetitions; damages bytes regardless of their meaning."""
    damages: list[Callable[[bytes, Random], Mutant]] = [_cut, _cut_late, _flip_bit, _flip_burst, _zero_block]
    if (tail := model.rfind(b"PK\3\4")) > 0:
        damages.append(lambda content, random: Mutant("truncated ZIP", content[: random.randrange(tail, len(content))]))
    return different(model, (damage(model, random) for damage in itertools.cycle(damages)))


def foreign_files(assets: Path, demo: Path, random: Random) -> list[Mutant]:
    """Files that are not such a model, for dropping under the name of one."""
    texts = {
        "text": b"The model is on the share, ask Kim.\n",
        "HTML page": b"<!DOCTYPE html><title>404 Not Found</title>",
        "json": b'{"model": "digits"}',
        "checksum": b"%064x  digits.tflite\n" % 7,
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:%064x\nsize 3577760\n" % 7,
        "empty": b"",
        "only an identifier": b"\x1c\0\0\0TFL3",
    }
    files = [assets / "h5" / "vww_96.h5", demo / "digit.jpg", demo / "digits.mp4", *sorted(assets.glob("photos/*.*"))]
    others = [*sorted(assets.glob("refuse/*/*.tflite")), *sorted(assets.glob("models/*/*.tflite"))]
    return [
        *(Mutant(kind, content) for kind, content in texts.items()),
        *(Mutant("noise", random.randbytes(1 << bits)) for bits in range(3, 20)),
        Mutant("zip", _zipped("labels.txt")),
        Mutant("keras", _zipped("metadata.json", "config.json", "model.weights.h5")),
        *(Mutant("other file", path.read_bytes()) for path in files if path.stat().st_size),
        *(Mutant("other model", path.read_bytes()) for path in others),
    ]


def different(model: bytes, mutants: Iterator[Mutant]) -> Iterator[Mutant]:
    """Each mutant once, and never the model itself."""
    seen = {hashlib.sha256(model).hexdigest()}
    for mutant in mutants:
        if mutant.sha256 not in seen:
            seen.add(mutant.sha256)
            yield mutant


def _cut(model: bytes, random: Random) -> Mutant:
    return Mutant("truncated", model[: random.randrange(1, len(model))])


def _cut_late(model: bytes, random: Random) -> Mutant:
    return Mutant("truncated", model[: -random.randrange(1, len(model) // 30)])


def _flip_bit(model: bytes, random: Random) -> Mutant:
    at = random.randrange(len(model))
    return Mutant("flipped bit", patched(model, {at: bytes([model[at] ^ 1 << random.randrange(8)])}))


def _flip_burst(model: bytes, random: Random) -> Mutant:
    length = 1 << random.randrange(1, 11)
    at = random.randrange(len(model) - length)
    noise = random.randbytes(length)
    return Mutant("burst", patched(model, {at: bytes(a ^ b for a, b in zip(model[at:], noise, strict=False))}))


def _zero_block(model: bytes, random: Random) -> Mutant:
    """As in a sparse file, or after a disk lost a page."""
    length = 1 << random.randrange(4, 13)
    at = random.randrange(0, len(model) - length, 16)
    return Mutant("zeroed", patched(model, {at: bytes(length)}))


def _zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), name)
    return stream.getvalue()


def patched(model: bytes, patch: Patch) -> bytes:
    content = bytearray(model)
    for at, value in patch.items():
        content[at : at + len(value)] = value
    return bytes(content)
