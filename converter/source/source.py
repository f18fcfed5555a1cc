"""Source: a trained model as a SavedModel folder, a file of Keras, or one of them in a .zip."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.host.digest import sha256_of
from agent.runtimes.saved_model import open_saved_model
from converter.errors import TrainedModelError
from converter.source.archive import unpack_model
from converter.source.file_kind import file_kind, foreign_kind
from converter.source.keras import open_keras

if TYPE_CHECKING:
    from agent.runtimes.saved_model import TrainedModel
    from converter.source.file_kind import FileKind


def open_source(path: Path, *, allow_code: bool = False) -> TrainedModel:
    """Only with `allow_code` may Python code in the file run.

    Raises TrainedModelError or ModelError if `path` is none of them, is incomplete, or cannot be read.
    """
    if path.is_dir():
        return open_saved_model(path)
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise TrainedModelError(f"{path} {what}.")
    try:
        kind = file_kind(path)
        if kind is None and path.suffix.lower() not in (".keras", ".h5", ".hdf5"):
            raise TrainedModelError(f"{path} is {foreign_kind(path)}")
    except OSError as error:
        raise TrainedModelError(f"{path} cannot be read: {error.strerror}.") from None
    if kind == "zip":
        return _open_in_archive(path, allow_code=allow_code)
    return _open_file(path, kind, allow_code=allow_code)


def _open_in_archive(path: Path, *, allow_code: bool) -> TrainedModel:
    with tempfile.TemporaryDirectory() as folder:
        model = unpack_model(path, Path(folder))
        try:
            if model.is_dir():
                opened = open_saved_model(model)
            else:
                opened = _open_file(model, file_kind(model), allow_code=allow_code)
        except AgentError as error:
            raise type(error)(str(error).replace(str(model), f"The model in {path}")) from error
    with path.open("rb") as file:
        return replace(opened, path=path, sha256=sha256_of(file))


def _open_file(path: Path, kind: FileKind | None, *, allow_code: bool) -> TrainedModel:
    if kind == "saved_model":
        return open_saved_model(path.parent)
    archive = kind == "keras" or (kind != "hdf5" and path.suffix.lower() == ".keras")
    return open_keras(path, archive=archive, allow_code=allow_code)
