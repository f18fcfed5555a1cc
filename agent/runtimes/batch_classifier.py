"""BatchClassifier: a classifier that can compute several instances in one call."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeAlias

from agent.runtimes.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from agent.runtimes.batch_sizes import BatchSizes
    from agent.runtimes.scores import Scores

    Array: TypeAlias = npt.NDArray[np.generic]
    Row: TypeAlias = tuple[Array, ...]  # what the model returned for one instance: every output, in their order


class BatchClassifier(Classifier):
    """Any number of threads may call compute() and read_row()."""

    @property
    @abstractmethod
    def batch_sizes(self) -> BatchSizes | None:
        """Those that pay; valid after warm_up(). None: compute one instance at a time, by scores()."""

    @abstractmethod
    def compute(self, tensors: Sequence[Array]) -> Sequence[Row]:
        """`tensors` are of tensor() and tensor_of(). Raises ModelError and MemoryFullError."""

    def read_row(self, row: Row) -> Scores:
        """Raises ModelError as scores() does."""
        return self.read(row[self.output_index].reshape(-1))
