"""Inferring: how the doors of the protocols run the instances of one request."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol, TypeAlias

from agent.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from agent.inference.data_plane import Sent
    from agent.inference.inferred import Inferred
    from agent.inference.options import Options
    from agent.models.serving import ServedModel

    MorePlaces: TypeAlias = Callable[[int], AbstractContextManager[None]]


class Inferring(Protocol):
    """What the protocols need of the data plane."""

    def choose(self, options: Options) -> ServedModel: ...
    def at_once(self, served: ServedModel, instances: int) -> Sequence[int]: ...
    async def infer(
        self,
        served: ServedModel,
        instances: Sequence[Sent],
        options: Options,
        *,
        arrived_ns: int,
        at_most: int | None = None,
    ) -> list[Inferred]: ...


async def infer_all(
    data_plane: Inferring,
    served: ServedModel,
    instances: Sequence[Sent],
    options: Options,
    *,
    arrived_ns: int,
    more_places: MorePlaces,
) -> list[Inferred]:
    """The caller holds one place of the queue; further instances that run in parallel need one each.

    Raises BusyError if `more_places` has not as many as the workers need, and what the data plane raises.
    """
    with contextlib.ExitStack() as stack:
        counts = data_plane.at_once(served, len(instances))
        count = most_places(lambda count: more_places(count - 1), counts, stack)
        return await data_plane.infer(served, instances, options, arrived_ns=arrived_ns, at_most=count)


def most_places(places: MorePlaces, counts: Sequence[int], stack: contextlib.ExitStack) -> int:
    """Enters `places` into `stack`, with the first of `counts` that are free. Raises BusyError if none is."""
    for count in counts[:-1]:
        with contextlib.suppress(BusyError):
            stack.enter_context(places(count))
            return count
    stack.enter_context(places(counts[-1]))
    return counts[-1]
