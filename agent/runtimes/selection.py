"""Selection: decides from a trial whether an accelerator computes a model, and says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from agent.model_file.metadata import Tensor

Wanted: TypeAlias = Literal["auto", "cpu", "gpu", "edgetpu"]

# The largest difference of a probability. Kernels of the CPU differ from one another by up to 0.09 in quantized
# models and by nothing in float32; GPUs compute with 16 bits.
_QUANTIZED_TOLERANCE, _FLOAT_TOLERANCE = 0.05, 0.01
_LEAST_GAIN = 0.1


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a trial found: median times of one image, with its transfer, and the largest difference of a score."""

    device: str
    cpu_ms: float
    gpu_ms: float
    difference: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Choice:
    """`reason` is None if there was nothing to choose."""

    accelerator: Literal["cpu", "gpu"]
    reason: str | None = None


def tolerance_for(taken: Tensor, given: Tensor) -> float:
    quantized = taken.dtype != "float32" or given.dtype != "float32"
    return _QUANTIZED_TOLERANCE if quantized else _FLOAT_TOLERANCE


def select(wanted: Wanted, found: Comparison) -> Choice:
    """The GPU if it is right and, with `auto`, at least 10 % faster."""
    gpu = f"The GPU ({found.device})"
    if not found.difference <= found.tolerance:  # also for NaN
        return Choice(
            "cpu",
            f"{gpu} gives scores that differ from those of the CPU by up to {found.difference:.3g}; at most "
            f"{found.tolerance:g} is allowed.",
        )
    times = f"{gpu} takes {_ms(found.gpu_ms)} per image, the CPU {_ms(found.cpu_ms)}."
    is_faster = found.gpu_ms <= (1 - _LEAST_GAIN) * found.cpu_ms
    return Choice("gpu" if is_faster or wanted == "gpu" else "cpu", times)


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
