"""Answers: writes the JSON of :predict and :classify as TensorFlow Serving does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from agent.rest.json_arrays import as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.inference.inferred import Inferred, Outputs


def predictions(done: Sequence[Inferred], *, in_rows: bool, raw: bool) -> str:
    """Without names if there is one output."""
    outputs = [each.with_raw_scores() if raw else each.outputs for each in done]
    if in_rows:
        return f'{{"predictions": [{", ".join(map(_row, outputs))}]}}'
    columns = {name: f"[{', '.join(as_json(each[name]) for each in outputs)}]" for name in outputs[0]}
    return f'{{"outputs": {_unnamed_if_one(columns)}}}'


def classifications(done: Sequence[Inferred]) -> str:
    """Every label with its score, the best first."""
    return f'{{"results": [{", ".join(map(_pairs, done))}]}}'


def _row(outputs: Outputs) -> str:
    return _unnamed_if_one({name: as_json(values) for name, values in outputs.items()})


def _unnamed_if_one(values: dict[str, str]) -> str:
    if len(values) == 1:
        return next(iter(values.values()))
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in values.items())}}}"


def _pairs(inferred: Inferred) -> str:
    scores = inferred.scores
    categories = scores.best(len(scores.labels))
    pairs = (f"[{json.dumps(each.label)}, {np.float32(each.score)}]" for each in categories)
    return f"[{', '.join(pairs)}]"
