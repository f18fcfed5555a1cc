"""Listing: which files and folders in the drop folder are models, and which only look like models."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from agent.host.plain_file import status_below
from agent.model_file.completeness import GRAPH
from agent.model_file.version import MAX_DIGITS, is_version
from agent.text import is_unicode, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

UNFINISHED = ("~", ".part", ".tmp", ".filepart", ".partial", ".crdownload", ".download")
_ENDINGS = (".tflite", ".lite")
_MODEL = "model.tflite"  # in TensorFlow Serving's layout
_WITH_GRAPH = ("fingerprint.pb", "keras_metadata.pb")  # which may be copied before it
_MAX_OVERLOOKED = 20
_MAX_LOOKED_AT = 100  # files of a folder that is not a version
_OTHER_FORMATS = (
    *(".keras", ".h5", ".hdf5", ".pb", ".ckpt", ".onnx", ".pt", ".pth", ".torchscript", ".safetensors"),
    *(".mlmodel", ".task", ".litertlm"),
)
_OTHER_SAVED_MODELS = ("saved_model.pbtxt", "saved_model.cpb")  # as text, and in pieces
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz", ".zst")
_RENAMED = re.compile(r"(.+\.(?:tflite|lite))(?:[ _(-].*|\.(?!sha256$|minisig$|rejected\.txt$)[^.]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A regular file, or a link to one, or the folder of a SavedModel; `version` is the number of its folder."""

    name: str
    path: Path
    version: int | None = None
    is_saved_model: bool = False


@dataclass(slots=True)
class Listing:
    """`overlooked` has a sentence for each file that looks like a model but is not one, up to a limit."""

    found: list[FoundModel] = field(default_factory=list)
    overlooked: tuple[str, ...] = ()


def list_models(root: Path) -> Listing:
    """Raises OSError if the folder cannot be listed; an inner folder that cannot be listed has no models."""
    listing = Listing()
    overlooked: list[str] = []
    flat: dict[str, list[str]] = {}
    for name in sorted(entry.name for entry in entries(root)):
        kind = _kind(root / name, root)
        if kind == "folder":
            overlooked += _list_versions(root, name, listing.found)
        elif kind == "file" and (model := model_name(name)):
            flat.setdefault(model, []).append(name)
        elif sentence := _why_overlooked(name, is_link=kind is None and (root / name).is_symlink()):
            overlooked.append(sentence)
    for model, names in flat.items():
        first, *others = sorted(names, key=lambda each: (not each.endswith(".tflite"), each))
        listing.found.append(FoundModel(model, root / first))
        overlooked += [f"{each} is ignored: {first} has the same name. Rename one of them." for each in others]
    invalid = {found.name for found in listing.found if not is_unicode(found.name)}
    overlooked += [
        f"The model {name!a} is ignored: its name is not valid UTF-8. Rename it." for name in sorted(invalid)
    ]
    listing.overlooked = tuple(printable(sentence, instead="?") for sentence in overlooked[:_MAX_OVERLOOKED])
    return listing


def model_name(file: str) -> str | None:
    """The name of the model in a file; None if the file does not have the name of a model file."""
    ending = next((ending for ending in _ENDINGS if file.lower().endswith(ending)), None)
    return file[: -len(ending)] or None if ending else None


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is inside, without hidden files and without those that are being copied. Raises OSError."""
    with os.scandir(folder) as scanned:
        for entry in scanned:
            if not entry.name.startswith(".") and not entry.name.endswith(UNFINISHED):
                yield entry


def _list_versions(root: Path, model: str, found: list[FoundModel]) -> Iterator[str]:
    """Adds the versions of a model to `found`; yields what it overlooks."""
    for name in _names(root / model):
        path, where = root / model / name, f"{model}/{name}"
        kind = _kind(path, root)
        if kind == "folder" and is_version(name):
            yield from _list_version(root, model, name, found)
        elif kind == "folder":
            if not path.is_symlink():  # `latest` may lead to a version
                yield from islice(_in_other_folder(path, where, name), 1)
        elif kind == "file" and model_name(name):
            yield f"{where} is ignored: put it into the folder of a version, such as {model}/1/{_MODEL}."
        elif kind == "file" and name == GRAPH:
            yield f"{where} is ignored: put the SavedModel into the folder of a version, such as {model}/1/{GRAPH}."
        elif sentence := _why_overlooked(where, is_link=kind is None and path.is_symlink()):
            yield sentence


def _list_version(root: Path, model: str, number: str, found: list[FoundModel]) -> Iterator[str]:
    """Like _list_versions() for one of them."""
    path, where = root / model / number, f"{model}/{number}"
    names = _names(path) or [_MODEL]  # a folder may be closed for listing but not for opening its files
    file = next((each for each in _best_first(names) if _kind(path / each, root) == "file"), None)
    has_graph = GRAPH in names and _kind(path / GRAPH, root) == "file"
    if file is not None:
        found.append(FoundModel(model, path / file, int(number)))
        if has_graph:
            yield f"{where}/{GRAPH} is ignored: {file} is in the same folder. Remove one of them."
    elif has_graph:
        found.append(FoundModel(model, path, int(number), is_saved_model=True))
    else:
        yield from islice(_in_version(path, where, names), 1)


def _best_first(names: Iterable[str]) -> list[str]:
    models = [name for name in names if (model_name(name) or "").lower() == "model"]
    return sorted(models, key=lambda name: (name != _MODEL, name))


def _in_version(path: Path, where: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        is_link = (path / name).is_symlink()
        if model_name(name) and not is_link and (path / name).is_file():
            yield f"{where}/{name} is ignored: the file of a version is called {_MODEL}. Rename it."
        elif name not in _WITH_GRAPH and (sentence := _why_overlooked(f"{where}/{name}", is_link=is_link)):
            yield sentence


def _in_other_folder(path: Path, where: str, name: str) -> Iterator[str]:
    number = re.sub("[^0-9]", "", name)[:MAX_DIGITS] or "1"
    for file in _names(path)[:_MAX_LOOKED_AT]:
        if model_name(file) or file == GRAPH:
            yield (
                f"{where}/{file} is ignored: the name of a version's folder is a whole number, such as {number}. "
                "Rename the folder."
            )


def _why_overlooked(where: str, *, is_link: bool) -> str | None:
    """The sentence about a file that looks like a model; `where` is its path inside the drop folder."""
    name = where.rpartition("/")[2]
    lower = name.lower()
    if is_link:
        if model_name(name) or "." not in name:
            return (
                f"{where} is ignored: it is a link that does not lead to a file in this folder. Copy the model itself, "
                "or link to a file inside the folder."
            )
    elif lower.endswith(_ARCHIVES):
        return f"{where} is ignored: it is an archive. Unpack it, and copy the .tflite file and its labels here."
    elif lower in _OTHER_SAVED_MODELS:
        return f"{where} is ignored: of a SavedModel, only the binary form is read. Save it as one {GRAPH}."
    elif lower.endswith(_OTHER_FORMATS):
        return f"{where} is ignored: it is not a .tflite file. Convert the model, for example with edge-convert."
    elif renamed := _RENAMED.fullmatch(name):
        return (
            f"{where} is ignored: the name of a model ends in .tflite, and its labels are in "
            f"{model_name(renamed[1])}.txt. Rename the file."
        )
    return None


def _kind(path: Path, root: Path) -> str | None:
    status = status_below(path, root)
    if status is None:
        return None
    return "file" if stat.S_ISREG(status.st_mode) else "folder" if stat.S_ISDIR(status.st_mode) else "other"


def _names(folder: Path) -> list[str]:
    """Empty if the folder disappears meanwhile or is not readable (lost+found)."""
    try:
        return sorted(entry.name for entry in entries(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
