"""Inferred: what a client of the model's SavedModel gets for one instance, next to its Result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from agent.classification import Result
    from agent.runtimes.scores import Scores

    Outputs: TypeAlias = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """`outputs` are those of the ServingSignature, by name, in its order and shapes.

    The first has the probabilities in the order of the model's classes: one value for a model with one output. `raw`
    has the values of that output as the model returned them. `scores` has one value per label.
    """

    result: Result
    scores: Scores
    outputs: Outputs
    raw: npt.NDArray[np.generic]

    def with_raw_scores(self) -> Outputs:
        """The outputs as the model returned them."""
        return {**self.outputs, next(iter(self.outputs)): self.raw}


def with_scores(raw: Outputs, scores: Scores) -> Outputs:
    """The outputs of the model with probabilities in the first one."""
    name, values = next(iter(raw.items()))
    return {**raw, name: scores.probabilities[-values.size :].reshape(values.shape)}
