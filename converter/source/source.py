"""Source: a trained model as a SavedModel folder, a file of Keras, or one of them in a .zip."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.host.digest import sha256_of
from agent.runtimes.saved_model import check_has_graph, open_saved_model
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
    kind = check_source(path)
    if kind is None:
        return open_saved_model(path)
    if kind == "zip":
        return _open_in_archive(path, allow_code=allow_code)
    return _open_file(path, kind, allow_code=allow_code)


def check_source(path: Path) -> FileKind | None:
    """The kind of a file, None for a folder. Takes no time.

    Raises TrainedModelError or ModelError if it can be no trained model.
    """
    if path.is_dir():
        _check_folder(path)
        return None
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise TrainedModelError(f"{path} {what}.")
    try:
        kind = file_kind(path)
        if kind is None:
            raise TrainedModelError(f"{path} is {foreign_kind(path)}")
    except OSError as error:
        raise TrainedModelError(f"{path} cannot be read: {error.strerror}.") from None
    return kind


def _check_folder(path: Path) -> None:
    """Names the model's own path if that is deeper, or the file if it was unpacked."""
    graph = path / "saved_model.pb"
    if graph.is_file() and file_kind(graph) is None:
        raise TrainedModelError(f"{graph} is {foreign_kind(graph)}")
    if not graph.is_file() and (path / "config.json").is_file() and (path / "model.weights.h5").is_file():
        raise TrainedModelError(
            f"{path} is an unpacked .keras file. Give the file itself, or pack the files into a .zip."
        )
    deeper = [] if graph.is_file() else sorted(path.glob("*/saved_model.pb"))
    if deeper:
        raise TrainedModelError(f"{path} is not a SavedModel, but {deeper[-1].parent} is. Give that folder.")
    check_has_graph(path)


def _open_in_archive(path: Path, *, allow_code: bool) -> TrainedModel:
    with tempfile.TemporaryDirectory() as folder:
        model = unpack_model(path, Path(folder))
        try:
            opened = open_source(model, allow_code=allow_code)
        except AgentError as error:
            raise type(error)(str(error).replace(str(model), f"The model in {path}")) from error
    with path.open("rb") as file:
        return replace(opened, path=path, sha256=sha256_of(file))


def _open_file(path: Path, kind: FileKind, *, allow_code: bool) -> TrainedModel:
    if kind == "saved_model":
        return open_saved_model(path.parent)
    return open_keras(path, archive=kind == "keras", allow_code=allow_code)
