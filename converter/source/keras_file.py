"""Keras file: the parts of a model that Keras saved, in HDF5 or in a .keras archive."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.runtimes.tensorflow import first_line
from converter.errors import TrainedModelError
from converter.source.pruning import leave_out_masks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WEIGHTS = "model.weights.h5"
_MOST_CONFIG = 100_000_000  # bytes
_MOST_SHRUNK = 200  # Keras does not compress; others may, but no weights shrink more


@dataclass(frozen=True, slots=True)
class KerasFile:
    """`version` is that of the Keras that claims to have saved it; `archive` tells .keras from HDF5."""

    path: Path
    archive: bool
    version: str
    config: dict[str, Any]

    @property
    def kind(self) -> str:
        return f"Keras {'.keras' if self.archive else '.h5'} file"

    def copy(self, folder: Path, config: Any) -> Path:
        """A copy with another configuration, its weights, and nothing else, under the name that Keras expects."""
        copy = folder / ("model.keras" if self.archive else "model.h5")
        with damage_named(self.path):
            if self.archive:
                _copy_archive(self.path, copy, json.dumps(config), self.version, folder / _WEIGHTS)
            else:
                _copy_hdf5(self.path, copy, json.dumps(config))
        return copy


def read_keras_file(path: Path, *, archive: bool) -> KerasFile:
    """Runs nothing of what is in the file. Raises TrainedModelError if it is damaged or not a model."""
    with damage_named(path):
        if archive:
            with zipfile.ZipFile(path) as parts:
                version = json.loads(_part(parts, "metadata.json"))["keras_version"]
                return KerasFile(path, archive, str(version), _config(_part(parts, "config.json")))
        import h5py  # noqa: PLC0415  (comes with TensorFlow)

        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise TrainedModelError(
                    f"{path} contains no model, at most weights. Save the whole model: model.save(file)."
                )
            version = _text(file.attrs.get("keras_version", "1"))
            return KerasFile(path, archive, version, _config(_text(file.attrs["model_config"])))


def _copy_archive(path: Path, copy: Path, config: str, version: str, weights: Path) -> None:
    with zipfile.ZipFile(path) as parts, zipfile.ZipFile(copy, "w") as written:
        written.writestr("metadata.json", json.dumps({"keras_version": version}))
        written.writestr("config.json", config)
        about = parts.getinfo(_WEIGHTS)
        if about.file_size > _MOST_SHRUNK * about.compress_size:
            raise ValueError(f"{_WEIGHTS} in it would take {about.file_size} bytes")
        with parts.open(about) as packed, weights.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        _check_hdf5(weights, path)
        written.write(weights, _WEIGHTS)


def _copy_hdf5(path: Path, copy: Path, config: str) -> None:
    import h5py  # noqa: PLC0415  (comes with TensorFlow)

    _check_hdf5(path, path)
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = config.encode()
        leave_out_masks(file["model_weights"])


def _check_hdf5(file: Path, path: Path) -> None:
    """HDF5 can take values from any other file that the user can read."""
    import h5py  # noqa: PLC0415  (comes with TensorFlow)

    def linked(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def taken(name: str, item: Any) -> str | None:
        return name if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual) else None

    def inflated(name: str, item: Any) -> str | None:
        values = isinstance(item, h5py.Dataset)
        return name if values and item.nbytes > _MOST_SHRUNK * (item.id.get_storage_size() + 1000) else None

    with h5py.File(file) as opened:  # an error raised in a visitor would get lost in h5py
        foreign = opened.visititems_links(linked) or opened.visititems(taken)
        if foreign is not None:
            raise _takes_from_elsewhere(path, foreign)
        if (name := opened.visititems(inflated)) is not None:
            raise ValueError(f"{name} in it claims {opened[name].nbytes} bytes, which it does not have")


def _takes_from_elsewhere(path: Path, name: str) -> TrainedModelError:
    return TrainedModelError(
        f"{path} takes {name} from another file on this computer, so it was not opened. Save the model again: "
        "model.save(file)."
    )


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as part:
        content = part.read(_MOST_CONFIG + 1)
    if len(content) > _MOST_CONFIG:
        raise ValueError(f"{name} in it is larger than {_MOST_CONFIG} bytes")
    return content


def _config(text: str | bytes) -> dict[str, Any]:
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError("its configuration is not a JSON object")
    return config


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raises any error as a TrainedModelError that calls the file damaged."""
    try:
        yield
    except TrainedModelError:
        raise
    except Exception as error:
        raise TrainedModelError(
            f"{path} is not a Keras model, or damaged: {first_line(error)}. Copy it again, or save the model again."
        ) from error
