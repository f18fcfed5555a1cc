"""Archive: a .zip with one trained model in it."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from agent.runtimes.tensorflow import first_line
from converter.errors import TrainedModelError
from converter.source.file_kind import READ, is_hdf5, known_kind

_MOST_FILES = 10_000
_MOST_SHRUNK = 200  # no model shrinks more
_ENDINGS = (".keras", ".h5", ".hdf5", ".hd5")
_SAVED_MODEL = "saved_model.pb"


def unpack_model(path: Path, folder: Path) -> Path:
    """Writes the only model in the archive to `folder`. Raises TrainedModelError if there is none, or another."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpacked(archive, path, folder)
    except (RuntimeError, NotImplementedError) as error:  # a password is needed, or another kind of compression
        raise TrainedModelError(f"{path} cannot be unpacked here. Unpack it yourself and give the model.") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError) as error:
        raise TrainedModelError(f"{path} cannot be unpacked: {first_line(error)}. Copy it again.") from error


def _unpacked(archive: zipfile.ZipFile, path: Path, folder: Path) -> Path:
    files = [about for about in archive.infolist() if not about.is_dir() and not about.filename.startswith("__MACOSX/")]
    model = _only_model({PurePosixPath(about.filename): _first_bytes(archive, about) for about in files}, path)
    root = model.parent if model.name == _SAVED_MODEL else model
    wanted = [about for about in files if PurePosixPath(about.filename).is_relative_to(root)]
    size, packed = sum(about.file_size for about in wanted), sum(about.compress_size for about in wanted)
    if len(wanted) > _MOST_FILES or size > _MOST_SHRUNK * (packed + 1000) or size > shutil.disk_usage(folder).free:
        raise TrainedModelError(
            f"{path} would take {size / 1e6:.0f} MB in {len(wanted)} files. Unpack it yourself and give the model."
        )
    for about in wanted:
        _write(archive, about, folder / "model" / PurePosixPath(about.filename).relative_to(root), path)
    return folder / "model"


def _write(archive: zipfile.ZipFile, about: zipfile.ZipInfo, target: Path, path: Path) -> None:
    if ".." in target.parts or "\\" in about.filename or "\0" in about.filename:
        raise TrainedModelError(f"{path} has a file with the path {about.filename!r}, so it was not unpacked.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(about) as packed, target.open("xb") as unpacked:
        shutil.copyfileobj(packed, unpacked)


def _first_bytes(archive: zipfile.ZipFile, about: zipfile.ZipInfo) -> bytes:
    with archive.open(about) as packed:
        return packed.read(READ)


def _only_model(begins: dict[PurePosixPath, bytes], path: Path) -> PurePosixPath:
    """The model among the files, of which `begins` has the first bytes."""
    models = [name for name, begin in begins.items() if _is_model(name, begin)]
    models = [name for name in models if not _is_part(name, models)]
    if len(models) > 1:
        shown = ", ".join(map(str, models[:3]))
        raise TrainedModelError(f"{path} contains {len(models)} models ({shown}). Unpack it and give one of them.")
    if models:
        return models[0]
    for name, begin in begins.items():
        if (kind := known_kind(begin, name.name)) is not None and begin:
            raise TrainedModelError(f"{path} contains {name}, which is {kind}")
    raise TrainedModelError(
        f"{path} contains no model. Put a SavedModel folder, a .keras file or an .h5 file in it, or give that."
    )


def _is_model(name: PurePosixPath, begin: bytes) -> bool:
    return name.name == _SAVED_MODEL or name.suffix.lower() in _ENDINGS or is_hdf5(begin)


def _is_part(name: PurePosixPath, models: list[PurePosixPath]) -> bool:
    """Whether it belongs to a SavedModel, as an asset."""
    return any(model.name == _SAVED_MODEL and model != name and name.is_relative_to(model.parent) for model in models)
