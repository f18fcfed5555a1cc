"""Strategy: computes on every GPU of the host and in mixed precision; without a GPU it changes nothing."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.runtimes.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Strategy:
    """`devices`: TensorFlow's names of those that share each batch, or none for TensorFlow's choice.

    `mixed`: whether networks compute with float16, while their weights stay float32.
    """

    devices: tuple[str, ...]
    mixed: bool
    distribution: Any  # tf.distribute.Strategy

    @property
    def is_plain(self) -> bool:
        return not self.devices and not self.mixed

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Networks that are made in it compute in this way."""
        policies = import_tensorflow().keras.mixed_precision
        before = policies.global_policy()
        policies.set_global_policy("mixed_float16" if self.mixed else before)
        try:
            with self.distribution.scope():
                yield
        finally:
            policies.set_global_policy(before)

    def spread(self, call: Any) -> Callable[[Floats], Any]:
        """`call`, a tf.function of a batch, with a part of each batch on each device."""
        if not self.devices:
            return call  # type: ignore[no-any-return]
        tf = import_tensorflow()

        def one(images: Any) -> Any:
            """On one device. A function with a signature would refuse what run() gives."""
            return call(images)

        run = tf.function(lambda part: self.distribution.run(one, args=(part,)), autograph=False)

        def spread(batch: Floats) -> Any:
            parts = np.array_split(batch, len(self.devices))
            values = self.distribution.experimental_distribute_values_from_function(
                lambda context: tf.constant(parts[context.replica_id_in_sync_group])
            )
            return tf.concat(self.distribution.experimental_local_results(run(values)), axis=0)

        return spread


def strategy_of_host() -> Strategy:
    gpus = tuple(device.name for device in import_tensorflow().config.list_logical_devices("GPU"))
    return strategy_of(gpus if len(gpus) > 1 else (), mixed=bool(gpus))


def strategy_of(devices: tuple[str, ...], *, mixed: bool) -> Strategy:
    distribute = import_tensorflow().distribute
    return Strategy(devices, mixed, distribute.MirroredStrategy(devices) if devices else distribute.get_strategy())
