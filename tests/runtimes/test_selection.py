"""The choice between the CPU and a GPU, from what a trial found."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agent.model_file.metadata import Tensor
from agent.runtimes.selection import Choice, Comparison, Wanted, select, tolerance_for

FOUND = Comparison("V3D 7.1", cpu_ms=10.0, gpu_ms=2.125, difference=0.002, tolerance=0.01)


@pytest.mark.parametrize(
    ("wanted", "gpu_ms", "accelerator"),
    [("auto", 9.0, "gpu"), ("auto", 9.1, "cpu"), ("auto", 250.0, "cpu"), ("gpu", 9.1, "gpu"), ("gpu", 250.0, "gpu")],
)
def test_gpu_is_chosen_if_it_is_a_tenth_faster_or_wanted(wanted: Wanted, gpu_ms: float, accelerator: str) -> None:
    assert select(wanted, replace(FOUND, gpu_ms=gpu_ms)).accelerator == accelerator


def test_reason_states_the_times_of_both() -> None:
    assert select("auto", FOUND) == Choice("gpu", "The GPU (V3D 7.1) takes 2.12 ms per image, the CPU 10 ms.")
    slow = select("auto", replace(FOUND, gpu_ms=1234.5))
    assert slow == Choice("cpu", "The GPU (V3D 7.1) takes 1234 ms per image, the CPU 10 ms.")


@pytest.mark.parametrize("wanted", ["auto", "gpu"])
@pytest.mark.parametrize("difference", [0.0101, 1.0, math.nan])
def test_wrong_scores_rule_the_gpu_out(wanted: Wanted, difference: float) -> None:
    choice = select(wanted, replace(FOUND, difference=difference))
    assert choice.accelerator == "cpu"
    assert choice.reason is not None
    assert choice.reason.startswith("The GPU (V3D 7.1) gives scores that differ from those of the CPU by up to ")
    assert choice.reason.endswith("at most 0.01 is allowed.")


def test_quantized_models_may_differ_more() -> None:
    real, pixels = Tensor("a", (1, 2), "float32"), Tensor("b", (1, 2), "uint8")
    assert tolerance_for(real, real) == 0.01
    assert tolerance_for(pixels, real) == tolerance_for(real, pixels) == tolerance_for(pixels, pixels) == 0.05
