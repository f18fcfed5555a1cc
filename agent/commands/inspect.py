"""The command `edge-agent inspect`: the content of a model file, and whether this device can serve it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from agent.commands.options import Json, ModelPath, read_stored, with_labels_beside
from agent.host.terminal import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.metadata import ModelFile, Tensor
    from agent.model_file.model import Model
    from agent.model_file.saved_model import SavedModelFolder
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.score_kind import SeenScores


_TRIAL_KEYS = {"cpu_ms": "processor_ms"}  # the JSON key stays stable for programs


def inspect(model: ModelPath, as_json: Json = False) -> None:
    """Show the content of a model, run the agent's trial, and report whether this device can serve the model."""
    from agent.commands.model_notes import notes_on, unused_settings
    from agent.errors import ModelError
    from agent.model_file.settings import ModelSettings, read_sidecars
    from agent.models.trial import Trial

    try:
        stored = read_stored(model)
    except ModelError as error:
        if as_json:
            print_json({"serves_here": False, "trial": None, "reason": str(error)})
            raise typer.Exit(1) from None
        raise
    sidecar, trial, scores, reason = ModelSettings(), None, None, None
    try:
        sidecar = read_sidecars(model)
        settings = with_labels_beside(stored.settings.overridden_by(sidecar), model)
        sidecar = ModelSettings(labels=settings.labels).overridden_by(sidecar)
        report = Trial(threads=1, accelerator="auto").run(model, sidecar)
        scores = report.scores
        trial = {
            _TRIAL_KEYS.get(key, key): value
            for key, value in asdict(report).items()
            if key not in ("scores", "notes", "is_shared")
        }
    except ModelError as error:
        reason = str(error)
    document = {
        **_describe(stored, stored.settings.overridden_by(sidecar), scores),
        "notes": notes_on(stored, sidecar),
        "serves_here": reason is None,
        "trial": trial,
        "reason": reason,
    }
    if as_json:
        print_json(document)
    else:
        document["scores_seen"] = scores
        for key in unused_settings(stored, sidecar):
            document[key] = f"{_in_words(document[key])} (no effect)"
        print_table(("", ""), ((key, _in_words(value)) for key, value in document.items()))
    if reason:
        raise typer.Exit(1)


def _describe(model: Model, settings: ModelSettings, scores: SeenScores | None) -> dict[str, Any]:
    from agent.model_file.saved_model import SavedModelFolder

    if isinstance(model, SavedModelFolder):
        return _describe_folder(model, settings, scores)
    return _describe_file(model, settings, scores)


def _describe_file(file: ModelFile, settings: ModelSettings, scores: SeenScores | None) -> dict[str, Any]:
    from agent.runtimes.interpreter import operator_name, runtime

    return {
        "name": file.name,
        "version": file.version,
        "description": file.description,
        "author": file.author,
        "license": file.license,
        "bytes": len(file.content),
        "inputs": _describe_tensors(file.inputs),
        "outputs": _describe_tensors(file.outputs),
        **_describe_settings(settings, scores),
        "operators": [f"{operator_name(op)} v{op.version}" for op in file.operators],
        "packed_files": [name for name in file.packed_files if not name.startswith("golden/")],
        "provenance": file.provenance,
        "min_runtime_version": file.min_runtime_version,
        "runtime": runtime(),
    }


def _describe_folder(model: SavedModelFolder, settings: ModelSettings, scores: SeenScores | None) -> dict[str, Any]:
    from agent.host.digest import files_in
    from agent.model_file.graph_signatures import read_signatures
    from agent.runtimes.tensorflow import installed_version

    files = files_in(model.path)
    version = installed_version()
    return {
        "bytes": sum((model.path / name).stat().st_size for name in files),
        "signatures": [str(each) for each in read_signatures(model.path)],
        **_describe_settings(settings, scores),
        "files": sorted(name for name in files if "/golden/" not in name),
        "provenance": model.provenance,
        "runtime": f"TensorFlow {version}" if version else None,
    }


def _describe_settings(settings: ModelSettings, scores: SeenScores | None) -> dict[str, Any]:
    return {
        "labels": list(settings.labels or ()),
        "mean": settings.mean,
        "std": settings.std,
        "color": settings.color,
        "resize": settings.resize or "stretch",
        "resample": settings.resample or "antialias",
        "score": settings.score or (scores.score if scores else None),
        "unknown_below": settings.unknown_below,
        "temperature": settings.temperature,
        "scores_seen": asdict(scores) if scores else None,
    }


def _describe_tensors(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    keys = ("name", "alias", "shape", "dtype", "scale", "zero_point")
    return [{key: getattr(tensor, key) for key in keys} for tensor in tensors]


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        shown = [_in_words(part) for part in value]
        return ", ".join(shown[:12]) + (f", ... ({len(shown)} in all)" if len(shown) > 12 else "")
    return "" if value is None else str(value)
