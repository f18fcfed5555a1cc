"""Measures every figure, prints a table and writes it to .cache/bench.json: `make bench`."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from typing import TYPE_CHECKING

from benchmarks import (
    camera_rate,
    classify_call,
    conversion,
    delivery,
    event_pages,
    footprint,
    grpc_rate,
    litserve_rate,
    model_swap,
    motion_gate,
    predict_cost,
    predict_rate,
    preprocess_time,
    protocol_rate,
    tensorflow_rate,
    view_cost,
)
from benchmarks.material import CACHE, models
from rich.console import Console
from rich.table import Table

from agent.runtimes.interpreter import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figure import Figure, Skipped


def main() -> None:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {runtime()}"
    load = os.getloadavg()[0]
    print(f"{machine}. Load before: {load:.2f}.", flush=True)
    started_s = time.monotonic()
    measured = []
    for figure in _figures():
        measured.append(figure)
        print("  ".join(cell for cell in figure.to_row() if cell), file=sys.stderr, flush=True)
    took_s = time.monotonic() - started_s
    name, model = next(iter(models().items()))
    _print(measured)
    document = {"model": name, "machine": machine, "load_before": load, "took_s": round(took_s)}
    CACHE.mkdir(exist_ok=True)
    figures = [figure.to_json() for figure in measured]
    (CACHE / "bench.json").write_text(json.dumps({**document, "figures": figures}, indent=2) + "\n")
    print(f"Measured {name} ({model.name}) in {took_s:.0f} s. JSON: {CACHE / 'bench.json'}")


def _figures() -> Iterator[Figure | Skipped]:
    yield from conversion.figures()  # first, since it makes the model for the others
    if not models():
        sys.exit("No MobileNetV2 found: TensorFlow could not be installed, and ../shared/assets does not exist.")
    model = next(iter(models().values()))
    yield from classify_call.figures()
    yield from preprocess_time.figures()
    yield from predict_rate.figures(model)
    yield from predict_cost.figures(model)
    yield from litserve_rate.figures(model)
    yield from protocol_rate.figures(model)
    yield from grpc_rate.figures(model)
    yield from tensorflow_rate.figures()
    yield from model_swap.figures(model)
    yield from footprint.figures(model)
    yield from camera_rate.figures(model)
    yield from motion_gate.figures(model)
    yield from view_cost.figures(model)
    yield from delivery.figures()
    yield from event_pages.figures()


def _print(figures: list[Figure | Skipped]) -> None:
    table = Table("figure", "median", "quartiles", "bound", "", box=None)
    for figure in figures:
        table.add_row(*figure.to_row())
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    main()
