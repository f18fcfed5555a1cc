"""Completeness: whether the folder of a SavedModel has all its files, decided without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from agent.errors import IncompleteModelError, ModelError
from agent.host.plain_file import open_plain_file
from agent.model_file.protobuf import fields
from agent.model_file.tensor_bundle import MAX_INDEX_BYTES, read_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.model_file.protobuf import Field

GRAPH = "saved_model.pb"
_VARIABLES, _INDEX = "variables/variables", "variables/variables.index"
_META_GRAPHS, _SAVER, _ASSETS, _OBJECTS = 2, 3, 6, 7  # numbers of the fields in saved_model.proto, meta_graph.proto
_ASSET_NAME = 2
_MAX_ASSETS = 1000


def check_complete(path: Path, *, root: Path | None = None) -> None:
    """Raises IncompleteModelError if a file that the others name is missing or shorter than they say; OSError.

    Reads little of it. With `root`, links count if they lead to a file below it.
    """
    needs = _needs(path, root)
    for asset in needs.assets:
        _size(path, f"assets/{asset}", root)
    if needs.variables:
        _check_variables(path, root)


@dataclass(frozen=True, slots=True)
class _Needs:
    """What the graphs need beside them."""

    variables: bool
    assets: tuple[str, ...]


def _needs(path: Path, root: Path | None) -> _Needs:
    try:
        with _opened(path, GRAPH, root) as file:
            graphs = [graph for graph in fields(file) if graph.number == _META_GRAPHS and graph.is_bytes]
            if not graphs:
                raise incomplete(f"{GRAPH} contains no graph")
            parts = [part for graph in graphs for part in graph.fields()]
            assets = [part for part in parts if part.number == _ASSETS and part.is_bytes][:_MAX_ASSETS]
            return _Needs(
                variables=any(part.number in (_SAVER, _OBJECTS) for part in parts),
                assets=tuple(dict.fromkeys(name for asset in assets for name in _names(asset))),
            )
    except ValueError as error:
        raise incomplete(f"{GRAPH} is damaged or incomplete ({error})") from None


def _names(asset: Field) -> Iterator[str]:
    for each in asset.fields():
        if each.number == _ASSET_NAME and each.is_bytes:
            name = each.read().decode(errors="replace")
            if name.startswith("/") or ".." in name.split("/") or "\0" in name:
                raise ModelError("The SavedModel names a file outside its folder. Save it again.")
            yield name


def _check_variables(path: Path, root: Path | None) -> None:
    with _opened(path, _INDEX, root) as file:
        content = file.read(MAX_INDEX_BYTES)
    try:
        bundle = read_index(content)
    except ValueError as error:
        raise incomplete(f"{_INDEX} is damaged or incomplete ({error})") from None
    if bundle is None:
        return
    for name, least in zip(bundle.file_names(_VARIABLES), bundle.sizes, strict=True):
        size = _size(path, name, root)
        if size < least:
            raise incomplete(f"{name} has {size} bytes but should have at least {least}")


def _size(path: Path, name: str, root: Path | None) -> int:
    with _opened(path, name, root) as file:
        return file.seek(0, 2)


def _opened(path: Path, name: str, root: Path | None) -> BinaryIO:
    try:
        return (path / name).open("rb") if root is None else open_plain_file(path / name, root=root)
    except (FileNotFoundError, NotADirectoryError):
        raise incomplete(f"{name} is missing") from None


def incomplete(why: str) -> IncompleteModelError:
    return IncompleteModelError(f"The SavedModel is not complete: {why}. Copy the whole folder again.")
