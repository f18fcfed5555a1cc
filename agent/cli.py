"""The command line: `edge-agent`; exits with 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.models import models_app
from agent.commands.terminal import print_finding, print_json, print_table
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.doctor.finding import Finding
    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.classifier import Classifier

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Classifies images on this device."
)

app.add_typer(models_app, name="models")

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; defaults apply without one.")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Numbers = Annotated[str | None, typer.Option(help="One number, or three with commas (one a channel).")]
Labels = Annotated[Path | None, typer.Option(help="Label file, one a line, instead of the model's own.")]


def main() -> None:
    """The entry point: errors that a person can act on are one sentence, never a traceback."""
    try:
        app()
    except AgentError as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


@app.command()
def run(config: ConfigFile = None) -> None:
    """Serve models, classify cameras and uploads, publish results, until SIGTERM or Ctrl-C."""
    # Before anything imports it: its warning at each try to open a camera that is away helps nobody.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    from agent import logs
    from agent.config.load import load_config

    settings = load_config(config)
    logs.set_up(form=settings.logging.format, level=settings.logging.level, device=settings.device.id)
    from agent import service

    service.run(settings)


@app.command("check-config")
def check_config(
    config: Annotated[Path, typer.Argument(help="YAML file.")],
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema for editors instead.")] = False,
    as_json: Json = False,
) -> None:
    """Check a configuration file without starting anything."""
    from agent.config.load import load_config, model_settings
    from agent.config.sections import Config
    from agent.doctor.examination import stand_in_for_the_unit
    from agent.wiring.broker import broker_endpoint

    if schema:
        print_json(Config.model_json_schema())
        return
    stand_in_for_the_unit(config)
    settings = load_config(config)
    model_settings(settings)
    broker_endpoint(settings).check()
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        print(f"{config} is right: {len(settings.cameras)} camera(s), models in {settings.models.folder}.")


@app.command()
def doctor(config: ConfigFile = None, as_json: Json = False) -> None:
    """Examine this device from the runtime to the broker; each finding is ok, a warning or a fault with its remedy.

    Without --config the installed configuration counts, where there is one. Exits with 1 where there is a fault.
    """
    from agent.doctor.examination import examine, stand_in_for_the_unit

    findings: list[Finding] = []
    for finding in examine(stand_in_for_the_unit(config)):
        findings.append(finding)
        if not as_json:  # each as it comes: one may wait for a broker
            print_finding(finding.level, finding.about, finding.fact, finding.remedy)
    if as_json:
        print_json([finding.to_json() for finding in findings])
    if any(finding.level == "fault" for finding in findings):
        raise typer.Exit(1)


@app.command()
def classify(
    model: ModelPath,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="JPEG, PNG, WebP or BMP files.")],
    max_results: Annotated[int, typer.Option(min=1, help="How many categories at most.")] = 5,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="The least score of a category.")] = 0.0,
    mean: Numbers = None,
    std: Numbers = None,
    labels: Labels = None,
    as_json: Json = False,
) -> None:
    """Classify image files with a model file, as the service would."""
    from agent.image import decode

    classifier = _open(model, mean, std, labels)
    failed = False
    answers: list[dict[str, Any]] = []
    for path in images:
        try:
            image = decode(_read(path), smallest_side=classifier.longest_side)
        except AgentError as error:
            failed = True
            answers.append({"image": str(path), "error": str(error)})
            continue
        scores, _ = classifier.scores(image)
        categories = scores.best(max_results, threshold=score_threshold)
        answers.append({"image": str(path), "categories": [category.to_json() for category in categories]})
    if as_json:
        print_json(answers)
    else:
        print_table(("image", "label", "score"), _answer_rows(answers))
    if failed:
        raise typer.Exit(1)


@app.command()
def inspect(model: ModelPath, as_json: Json = False) -> None:
    """Show what a model file says of itself, and whether and why not it can serve here, by the agent's own trial."""
    from agent.errors import ModelError
    from agent.model_file.metadata import read_model_file
    from agent.model_file.settings import read_sidecars
    from agent.models.trial import Trial

    file, sidecar = read_model_file(_read(model)), read_sidecars(model)
    trial, reason = None, None
    try:
        trial = asdict(Trial(threads=1).run(model, sidecar))
    except ModelError as error:
        reason = str(error)
    document = {
        **_describe(file, file.settings.overridden_by(sidecar)),
        "serves_here": reason is None,
        "trial": trial,
        "reason": reason,
    }
    if as_json:
        print_json(document)
    else:
        print_table(("", ""), ((key, _in_words(value)) for key, value in document.items()))
    if reason:
        raise typer.Exit(1)


@app.command()
def bench(
    model: ModelPath,
    image: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP file.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="How often.")] = 100,
    as_json: Json = False,
) -> None:
    """Measure decode, preprocess and invoke of one image, in milliseconds."""
    from agent.image import decode
    from agent.runtimes.interpreter import runtime

    classifier = _open(model, None, None, None, threads)
    content = _read(image)
    classifier.warm_up()
    stages: dict[str, list[float]] = {"decode": [], "preprocess": [], "invoke": [], "total": []}
    for _ in range(rounds):
        started = time.perf_counter()
        decoded = decode(content, smallest_side=classifier.longest_side)
        decode_ms = (time.perf_counter() - started) * 1e3
        scores, spent = classifier.scores(decoded)
        scores.best(5)
        total_ms = (time.perf_counter() - started) * 1e3
        for stage, value in zip(stages, (decode_ms, spent.preprocess, spent.invoke, total_ms), strict=True):
            stages[stage].append(value)
    medians = {stage: round(statistics.median(values), 3) for stage, values in stages.items()}
    if as_json:
        print_json({"runtime": runtime(), "threads": threads, "rounds": rounds, "median_ms": medians})
    else:
        print_table(("stage", "median ms"), ((stage, str(value)) for stage, value in medians.items()))


def _open(path: Path, mean: str | None, std: str | None, labels: Path | None, threads: int = 1) -> Classifier:
    from agent.model_file.metadata import read_model_file
    from agent.model_file.settings import ModelSettings, final_settings, parse_labels
    from agent.runtimes.runtime import open_classifiers

    file = read_model_file(_read(path))
    given = ModelSettings(
        labels=parse_labels(_read(labels), where=str(labels)) if labels else None,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
    )
    settings = final_settings(path, own=file.settings, given=given)
    (classifier,) = open_classifiers(file, settings, workers=1, threads=threads)
    return classifier


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    from agent.model_file.settings import checked_numbers

    if text is None:
        return None
    try:
        return checked_numbers(option.strip("-"), [float(number) for number in text.split(",")])
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not one number or three with commas, and std cannot be 0.", param_hint=option
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}.") from None


def _describe(file: ModelFile, settings: ModelSettings) -> dict[str, Any]:
    from agent.runtimes.interpreter import operator_name, runtime

    def tensors(these: Any) -> list[dict[str, Any]]:
        return [
            {"name": t.name, "shape": t.shape, "dtype": t.dtype, "scale": t.scale, "zero_point": t.zero_point}
            for t in these
        ]

    return {
        "name": file.name,
        "version": file.version,
        "description": file.description,
        "author": file.author,
        "license": file.license,
        "bytes": len(file.content),
        "inputs": tensors(file.inputs),
        "outputs": tensors(file.outputs),
        "labels": list(settings.labels or ()),
        "mean": settings.mean,
        "std": settings.std,
        "color": settings.color,
        "resize": settings.resize or "stretch",
        "score": settings.score,
        "operators": [f"{operator_name(op)} v{op.version}" for op in file.operators],
        "packed_files": [name for name in file.packed_files if not name.startswith("golden/")],
        "provenance": file.provenance,
        "min_runtime_version": file.min_runtime_version,
        "runtime": runtime(),
    }


def _answer_rows(answers: list[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    for answer in answers:
        if "error" in answer:
            yield answer["image"], answer["error"], ""
        for category in answer.get("categories", ()):
            yield answer["image"], category["label"], f"{category['score']:.3f}"


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        shown = [_in_words(part) for part in value]
        return ", ".join(shown[:12]) + (f", ... ({len(shown)} in all)" if len(shown) > 12 else "")
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
