"""SavedModelClassifier: serves a SavedModel with TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.errors import MemoryFullError
from agent.runtimes.batch_classifier import BatchClassifier
from agent.runtimes.batch_sizes import measured, powers_of_two
from agent.runtimes.model_input import black
from agent.runtimes.saved_function import shortage_of_room
from agent.runtimes.tensorflow import device_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.model_file.settings import ModelSettings
    from agent.model_file.warmup_requests import WarmupRequest
    from agent.runtimes.batch_classifier import Array, Row
    from agent.runtimes.batch_sizes import BatchSizes
    from agent.runtimes.saved_function import SavedFunction


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`is_forced`: batches are computed even if they do not pay."""

    max_size: int = 8
    is_forced: bool = False


class SharedFunction:
    """What the classifiers of all workers have in common: the function, and its batch sizes once it is warm."""

    def __init__(
        self,
        function: SavedFunction,
        limits: BatchLimits | None,
        *,
        requests: Callable[[], Iterable[WarmupRequest]] = tuple,
    ) -> None:
        """Without `limits`, there are no batches. `requests` are called once, when the model warms up."""
        self._requests = requests
        self.compute = function
        self.measured: BatchSizes | None = None
        self.sizes: BatchSizes | None = None
        self._limits = limits
        self._is_warm = False

    def warm_up(self, invokes: int) -> None:
        """Only the first call does something."""
        if self._is_warm:
            return
        self._is_warm = True
        one = [black(self.compute.input)]
        with shortage_of_room():
            for _ in range(invokes):
                self.compute(one)
            for request in self._requests():
                self.compute.replay(request)
            if self._limits is not None and self.compute.batch != 1:
                self._choose(one, self._limits)

    @property
    def reason(self) -> str | None:
        """Sentences about batches, and about options without effect."""
        sentences = [*self.compute.notes, *([] if self.measured is None else [self._about_batches(self.measured)])]
        return ". ".join(sentences) + "." if sentences else None

    def _choose(self, one: list[Array], limits: BatchLimits) -> None:
        sizes = measured(lambda size: self._compute(one * size), self._warm_sizes(one, limits.max_size))
        self.measured = replace(sizes, are_forced=limits.is_forced)
        if limits.is_forced or sizes.pays:
            self.sizes = self.measured

    def _about_batches(self, sizes: BatchSizes) -> str:
        if self.sizes is None:
            return f"One image at a time, since batches are not 5 % faster per image ({sizes})"
        return f"Batches of up to {sizes.best} images; time per image by batch size: {sizes}"

    def _warm_sizes(self, one: list[Array], most: int) -> list[int]:
        """Those that the memory suffices for; the first call of a size may compile it, which takes long."""
        sizes = []
        for size in powers_of_two(min(most, self.compute.batch or most)):
            try:
                self._compute(one * size)
            except MemoryFullError:
                if size == 1:
                    raise
                break
            sizes.append(size)
        return sizes

    def _compute(self, tensors: Sequence[Array]) -> None:
        self.compute(tensors)


class SavedModelClassifier(BatchClassifier):
    """One per worker; they share a function, which TensorFlow runs in several threads at the same time."""

    platform = "tensorflow_savedmodel"
    # The folder that was opened is a copy, whose name says nothing to a person.
    _sidecar = "a .yaml file with the name of the version's folder, next to that folder"
    _label_file = "the file assets.extra/labels.txt in the SavedModel"

    def __init__(self, shared: SharedFunction, settings: ModelSettings) -> None:
        function = shared.compute
        super().__init__((function.input,), function.outputs, settings, takes_files=function.input.dtype == "string")
        self._shared = shared
        self._row: Row = ()

    @property
    def ran_on(self) -> str:
        return device_name(self._shared.compute.device)

    @property
    def accelerator(self) -> str:
        return "gpu" if "GPU" in self._shared.compute.device else "cpu"

    @property
    def accelerator_reason(self) -> str | None:
        return self._shared.reason

    @property
    def batch_sizes(self) -> BatchSizes | None:
        return self._shared.sizes

    def warm_up(self, invokes: int = 3) -> None:
        self._shared.warm_up(invokes)

    def compute(self, tensors: Sequence[Array]) -> Sequence[Row]:
        return self._shared.compute(tensors)

    def _invoke(self, tensor: Array) -> Array:
        (self._row,) = self._shared.compute([tensor])
        return self._row[self.output_index].reshape(-1)

    def _output(self, index: int) -> Array:
        return self._row[index]
