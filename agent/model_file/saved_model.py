"""SavedModel: what the folder of a trained model says about itself, read without TensorFlow.

The folder is as TensorFlow writes it. `assets.extra`, which TensorFlow leaves to others, may have `labels.txt`, and
`edge_agent.json` with the keys `settings` (as in a sidecar) and `provenance`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from agent.errors import IncompleteModelError, ModelError
from agent.host.plain_file import open_plain_file
from agent.model_file.labels import parse_labels
from agent.model_file.metadata import ADDITIONS
from agent.model_file.protobuf import fields
from agent.model_file.settings import LABELS_TXT, ModelSettings, check_settings
from agent.model_file.tensor_bundle import MAX_INDEX_BYTES, read_index
from agent.text import printable_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.model_file.protobuf import Field

GRAPH = "saved_model.pb"
EXTRA = "assets.extra"
_VARIABLES, _INDEX = "variables/variables", "variables/variables.index"
_META_GRAPHS, _SAVER, _ASSETS, _OBJECTS = 2, 3, 6, 7  # numbers of the fields in saved_model.proto, meta_graph.proto
_ASSET_NAME = 2
_MAX_ASSETS = 1000
_MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SavedModelFolder:
    """A SavedModel with all its files; `settings` and `provenance` come from its assets.extra."""

    path: Path
    settings: ModelSettings
    provenance: dict[str, Any] | None = None


def read_saved_model(path: Path) -> SavedModelFolder:
    """Raises ModelError if it is not a SavedModel, IncompleteModelError if a file is missing or truncated; OSError."""
    check_complete(path)
    additions = _additions(path)
    provenance = additions.get("provenance")
    return SavedModelFolder(
        path,
        _labels(path).overridden_by(check_settings(additions.get("settings", {}), where=f"{EXTRA}/{ADDITIONS}")),
        printable_json(provenance) if isinstance(provenance, dict) else None,
    )


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
                raise _incomplete(f"{GRAPH} contains no graph")
            parts = [part for graph in graphs for part in graph.fields()]
            assets = [part for part in parts if part.number == _ASSETS and part.is_bytes][:_MAX_ASSETS]
            return _Needs(
                variables=any(part.number in (_SAVER, _OBJECTS) for part in parts),
                assets=tuple(dict.fromkeys(name for asset in assets for name in _names(asset))),
            )
    except ValueError as error:
        raise _incomplete(f"{GRAPH} is damaged or incomplete ({error})") from None


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
        raise _incomplete(f"{_INDEX} is damaged or incomplete ({error})") from None
    if bundle is None:
        return
    for name, least in zip(bundle.file_names(_VARIABLES), bundle.sizes, strict=True):
        size = _size(path, name, root)
        if size < least:
            raise _incomplete(f"{name} has {size} bytes but should have at least {least}")


def _size(path: Path, name: str, root: Path | None) -> int:
    with _opened(path, name, root) as file:
        return file.seek(0, 2)


def _opened(path: Path, name: str, root: Path | None) -> BinaryIO:
    try:
        return (path / name).open("rb") if root is None else open_plain_file(path / name, root=root)
    except (FileNotFoundError, NotADirectoryError):
        raise _incomplete(f"{name} is missing") from None


def _incomplete(why: str) -> IncompleteModelError:
    return IncompleteModelError(
        f"The SavedModel is not complete: {why}. Copy the whole folder again; it is tried again once it is complete."
    )


def _labels(path: Path) -> ModelSettings:
    """Those of `assets.extra/labels.txt`, or of the `labels.txt` that Teachable Machine writes."""
    for name in (f"{EXTRA}/{LABELS_TXT}", LABELS_TXT):
        if (content := _text(path, name)) is not None:
            return ModelSettings(labels=parse_labels(content, where=name))
    return ModelSettings()


def _additions(path: Path) -> dict[str, Any]:
    name = f"{EXTRA}/{ADDITIONS}"
    content = _text(path, name)
    if content is None:
        return {}
    try:
        additions = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _incomplete(f"{name} is not JSON ({error})") from None
    if not isinstance(additions, dict):
        raise ModelError(f"{name} is not a JSON object. Write it again.")
    return additions


def _text(path: Path, name: str) -> bytes | None:
    if not (path / name).is_file():
        return None
    with (path / name).open("rb") as file:
        content = file.read(_MAX_TEXT_BYTES + 1)
    if len(content) > _MAX_TEXT_BYTES:
        raise ModelError(f"{name} is larger than {_MAX_TEXT_BYTES >> 20} MB.")
    return content
