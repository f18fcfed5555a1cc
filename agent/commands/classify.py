"""The commands `edge-agent classify` and `bench`: run a model file on images, as the service does."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.options import Json, ModelPath, read_file, read_stored, with_labels_beside
from agent.errors import AgentError
from agent.host.terminal import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.runtimes.classifier import Classifier

_NUMBERS = "One number, or three separated by commas (one per channel)."
Mean = Annotated[str | None, typer.Option(help=f"Mean of the normalization (pixel - MEAN) / STD. {_NUMBERS}")]
Std = Annotated[str | None, typer.Option(help=f"Standard deviation of the normalization. {_NUMBERS}")]
Labels = Annotated[
    Path | None,
    typer.Option(help="Label file, one label per line. Default: the labels in the model.", readable=False),
]


def classify(
    model: ModelPath,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files (JPEG, PNG, WebP or BMP).", readable=False)
    ],
    max_results: Annotated[int, typer.Option(min=1, help="Maximum number of categories per image.")] = 5,
    score_threshold: Annotated[
        str,
        typer.Option(
            help="Lowest score of a category, 0 to 1. auto: the model's own threshold, or 0.5 if it has none."
        ),
    ] = "0",
    mean: Mean = None,
    std: Std = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Classify image files with a model file, as the service does."""
    from agent.image import decode

    threshold = _threshold(score_threshold)
    classifier = _open(model, mean, std, labels)
    failed = False
    answers: list[dict[str, Any]] = []
    for path in images:
        try:
            image = decode(read_file(path), smallest_side=classifier.smallest_side)
        except AgentError as error:
            failed = True
            answers.append({"image": str(path), "error": str(error)})
            continue
        scores, _ = classifier.scores(image)
        categories = scores.best(max_results, threshold=scores.threshold(threshold))
        answers.append({"image": str(path), "categories": [category.to_json() for category in categories]})
    if as_json:
        print_json(answers)
    else:
        print_table(("image", "label", "score"), _answer_rows(answers))
    if failed:
        raise typer.Exit(1)


def bench(
    model: ModelPath,
    image: Annotated[Path, typer.Argument(help="Image file (JPEG, PNG, WebP or BMP).", readable=False)],
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of the interpreter.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Number of iterations.")] = 100,
    as_json: Json = False,
) -> None:
    """Measure how long one image takes to decode, preprocess and classify, in milliseconds."""
    from agent.image import decode
    from agent.runtimes.interpreter import runtime

    classifier = _open(model, None, None, None, threads)
    content = read_file(image)
    classifier.warm_up()
    stages: dict[str, list[float]] = {"decode": [], "preprocess": [], "invoke": [], "total": []}
    for _ in range(rounds):
        started = time.perf_counter()
        decoded = decode(content, smallest_side=classifier.smallest_side)
        decode_ms = (time.perf_counter() - started) * 1e3
        scores, spent = classifier.scores(decoded)
        scores.best(5)
        total_ms = (time.perf_counter() - started) * 1e3
        for stage, value in zip(stages, (decode_ms, spent.preprocess, spent.invoke, total_ms), strict=True):
            stages[stage].append(value)
    medians = {stage: round(statistics.median(values), 3) for stage, values in stages.items()}
    if as_json:
        ran_on = classifier.ran_on if model.is_dir() else runtime()
        print_json({"runtime": ran_on, "threads": threads, "rounds": rounds, "median_ms": medians})
    else:
        print_table(("stage", "median ms"), ((stage, str(value)) for stage, value in medians.items()))


def _open(path: Path, mean: str | None, std: str | None, labels: Path | None, threads: int = 1) -> Classifier:
    from agent.model_file.labels import parse_labels
    from agent.model_file.settings import ModelSettings, final_settings
    from agent.runtimes.preprocessing import without_effect
    from agent.runtimes.runtime import open_classifiers

    model = read_stored(path)
    given = ModelSettings(
        labels=parse_labels(read_file(labels), where=str(labels)) if labels else None,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
    )
    settings = with_labels_beside(final_settings(path, own=model.settings, given=given), path)
    (classifier,) = open_classifiers(model, settings, workers=1, threads=threads, accelerator="auto")
    unused = without_effect(classifier.input, settings)
    for sentence in dict.fromkeys(why for name, why in unused.items() if getattr(given, name) is not None):
        typer.echo(f"edge-agent: {sentence}", err=True)
    return classifier


def _threshold(text: str) -> float | None:
    """None for auto."""
    if text == "auto":
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1
    if not 0 <= threshold <= 1:  # also false for nan
        raise typer.BadParameter(f"{text!r} is not a number from 0 to 1, or auto.", param_hint="--score-threshold")
    return threshold


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    from agent.model_file.settings import checked_numbers

    if text is None:
        return None
    try:
        return checked_numbers(option.strip("-"), [float(number) for number in text.split(",")])
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not one number or three separated by commas; std cannot be 0.", param_hint=option
        ) from None


def _answer_rows(answers: list[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    for answer in answers:
        if "error" in answer:
            yield answer["image"], answer["error"], ""
        for category in answer.get("categories", ()):
            yield answer["image"], category["label"], f"{category['score']:.3f}"
