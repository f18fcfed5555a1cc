"""Terminal output: progress bars, tables and sentences."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import Progress

from agent.host.terminal import on_one_line, print_table
from converter.evaluation.evaluation import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from converter.conversion import Conversion
    from converter.evaluation.evaluation import Evaluation
    from converter.evaluation.resampling import ResamplingComparison
    from converter.finished_model import FinishedModel
    from converter.progress import T, Track
    from converter.training.training import Training


class _Bars:
    """A Track that draws temporary progress bars on `console`, if that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        with self._progress() as progress:
            yield from progress.track(items, description=what)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        with self._progress() as progress:
            progress.add_task(what, total=None)
            yield

    def _progress(self) -> Progress:
        return Progress(console=self._console, transient=True, disable=not self._console.is_terminal)


@contextmanager
def terminal(*, debug: bool) -> Iterator[Track]:
    """Progress bars on the terminal; TensorFlow's own messages only with --debug."""
    with nullcontext(sys.stderr) if debug else native_noise_hidden() as stream:
        yield _Bars(Console(file=stream))


@contextmanager
def native_noise_hidden() -> Iterator[TextIO]:
    """Yields the original standard error and drops everything else written to it, also from C++.

    TensorFlow and LLVM write dozens of lines that bypass Python's logging and warnings.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with Path(os.devnull).open("w") as nowhere, os.fdopen(terminal, "w") as stream:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield stream
        finally:
            sys.stderr.flush()
            stream.flush()
            os.dup2(terminal, 2)


def print_conversion(conversion: Conversion) -> None:
    if conversion.layers:
        layers = [
            (layer.name, layer.operator, f"{100 * layer.error:.1f} %", ", ".join(layer.feeds))
            for layer in conversion.layers
        ]
        print_table(("layer", "operator", "output error", "feeds"), layers)
    evaluations = [model.evaluation for model in conversion.models if model.evaluation is not None]
    if evaluations:
        rows = [_source_row(evaluations[0]), *map(_row, conversion.models)]
        print_table(("file", "scheme", "kB", "top-1", "agreement", "ms", ""), rows)
    else:
        print_table(("file", "scheme", "kB", ""), [(*_row(model)[:3], _row(model)[-1]) for model in conversion.models])
    several = len(conversion.models) > 1
    if evaluations and not several and conversion.accepted:
        print(on_one_line(evaluations[0].verdict))  # a refusal already contains it
    for model in conversion.accepted:
        for sentence in (*(model.evaluation.score_sentences if model.evaluation else ()), model.checked):
            print(on_one_line(f"{model.path.name}: {sentence}" if several else sentence))
    if conversion.golden and conversion.accepted:
        print(f"{'Each' if several else 'The'} file contains {conversion.golden} golden samples.")


def _source_row(evaluation: Evaluation) -> tuple[str, ...]:
    figures = evaluation.figures[0]
    size, top1, ms = _figures(figures)
    return figures["name"], "source", size, top1, "", ms, ""


def _row(model: FinishedModel) -> tuple[str, ...]:
    end = "written" if model.refusal is None else "refused"
    if model.evaluation is None:
        return model.path.name, model.scheme, f"{len(model.content) / 1000:.0f}", "", "", "", end
    size, top1, ms = _figures(model.evaluation.figures[-1])
    return model.path.name, model.scheme, size, top1, percent(model.evaluation.agreement), ms, end


def _figures(model: dict[str, Any]) -> tuple[str, str, str]:
    return f"{model['bytes'] / 1000:.0f}", percent(model["top1"]), f"{model['invoke_ms']['median']:.2f}"


def print_evaluation(evaluation: Evaluation) -> None:
    rows = [
        (
            model["name"],
            model["ran_on"],
            f"{model['bytes'] / 1000:.0f}",
            percent(model["top1"]),
            percent(model["top5"]),
            f"{model['macro_f1']:.3f}",
            f"{model['invoke_ms']['median']:.2f}",
        )
        for model in evaluation.figures
    ]
    print_table(("model", "ran on", "kB", "top-1", "top-5", "macro F1", "ms"), rows)
    for sentence in (evaluation.verdict, *evaluation.score_sentences):
        print(on_one_line(sentence))


def print_resampling(comparison: ResamplingComparison) -> None:
    rows = [
        (
            fit.method,
            percent(fit.top1),
            f"{fit.log_loss:.3f}",
            ", ".join(
                word for word, holds in (("used", fit is comparison.current), ("best", fit is comparison.best)) if holds
            ),
        )
        for fit in comparison.fits
    ]
    print_table(("resample", "top-1", "log loss", ""), rows)
    print(on_one_line(comparison.advice))


def print_training(training: Training) -> None:
    figures = training.result.figures
    rows = [
        (label, str(figures.images[at]), percent(figures.recall[at]), f"{figures.f1[at]:.2f}")
        for at, label in enumerate(training.dataset.labels)
    ]
    print_table(("class", "photos", "recognized", "F1"), rows)
    print(on_one_line(training.verdict))


def print_inspection(document: dict[str, Any]) -> None:
    print_table(("", ""), [(key, in_words(value)) for key, value in document.items() if key != "signatures"])
    for signature in document["signatures"]:
        lacking = signature["lacks_in_tflite"]
        words = {
            "inputs": ", ".join(map(_tensor, signature["inputs"])),
            "outputs": ", ".join(map(_tensor, signature["outputs"])),
            "image_classifier": "yes" if signature["image_classifier"] else "no",
            "lacks_in_tflite": "unknown" if lacking is None else ", ".join(lacking) or "none",
        }
        print()
        print_table(("", ""), [(key, words.get(key, in_words(value))) for key, value in signature.items()])


def _tensor(tensor: dict[str, Any]) -> str:
    sides = " x ".join("?" if side == -1 else str(side) for side in tensor["shape"])
    return f"{tensor['name']}: {tensor['dtype']} {sides}"


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"edge-convert: {on_one_line(note)}", file=sys.stderr)


def in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
