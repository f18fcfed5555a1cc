"""Inferring: how the doors of the protocols run the instances of one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

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

    @property
    def workers(self) -> int: ...
    def choose(self, options: Options) -> ServedModel: ...
    async def infer(
        self, served: ServedModel, instances: Sequence[Sent], options: Options, *, arrived_ns: int
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

    Raises BusyError if `more_places` has not as many, and what the data plane raises.
    """
    with more_places(min(len(instances), data_plane.workers) - 1):
        return await data_plane.infer(served, instances, options, arrived_ns=arrived_ns)
