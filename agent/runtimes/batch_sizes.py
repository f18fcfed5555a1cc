"""BatchSizes: how many images a model computes at a time, chosen by measuring.

Sizes are powers of two. Each is measured in turn, several times; the fastest time counts, because other programs only
make a call slower. The best size has the shortest time per image. Batches pay if it is at least 5 % faster than one
image at a time; otherwise the model gets one image at a time, in the workers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PAYS_BELOW = 0.95
_ROUNDS = 5
_LONGEST_S = 3.0  # for all sizes; a slow model is measured fewer times


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """`ms_per_image` has the sizes with their measured times; 1 is always among them.

    `are_forced`: the largest size is used, even if it is slower.
    """

    ms_per_image: Mapping[int, float]
    are_forced: bool = False

    @property
    def best(self) -> int:
        return self._fastest(self.ms_per_image)

    @property
    def pays(self) -> bool:
        return self.ms_per_image[self.best] <= _PAYS_BELOW * self.ms_per_image[1]

    def next_of(self, waiting: int) -> int:
        """The size of the next batch of `waiting` images: the fastest per image that they fill."""
        return self._fastest([size for size in self.ms_per_image if size <= waiting])

    def below(self, size: int) -> BatchSizes:
        """Without those that need as much memory as `size`."""
        return replace(self, ms_per_image={each: ms for each, ms in self.ms_per_image.items() if each < max(size, 2)})

    def __str__(self) -> str:
        return ", ".join(f"{size}: {ms:.3g} ms" for size, ms in self.ms_per_image.items())

    def _fastest(self, sizes: Mapping[int, float] | list[int]) -> int:
        if self.are_forced:
            return max(sizes)
        return min(sizes, key=lambda size: (self.ms_per_image[size], size))


def powers_of_two(largest: int) -> list[int]:
    return [1 << power for power in range(largest.bit_length())]


def measured(
    compute: Callable[[int], None], sizes: list[int], *, clock: Callable[[], float] = time.perf_counter
) -> BatchSizes:
    """`compute` computes a batch of a size that it has computed before. In rounds: a busy second hits all sizes."""
    fastest_s = dict.fromkeys(sizes, float("inf"))
    until_s = clock() + _LONGEST_S
    for number in range(_ROUNDS):
        for size in sizes:
            started_s = clock()
            if number > 0 and started_s > until_s:
                break
            compute(size)
            fastest_s[size] = min(fastest_s[size], clock() - started_s)
    return BatchSizes({size: seconds * 1e3 / size for size, seconds in fastest_s.items()})
