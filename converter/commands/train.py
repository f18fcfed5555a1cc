"""The command `edge-convert train`: trains a classifier on a folder of photos."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.host.terminal import on_one_line, print_json
from converter.commands.convert import raise_refusals
from converter.commands.options import Debug, Json
from converter.errors import StoppedError
from converter.images.splits import given_splits
from converter.terminal import print_conversion, print_notes, print_training, terminal
from converter.training.backbone import DEFAULT, BackboneName

if TYPE_CHECKING:
    from converter.conversion import Conversion
    from converter.training.training import Training, TrainingRequest


def train(
    dataset_dir: Annotated[Path, typer.Argument(metavar="DATASET_DIR", help="Photos, one folder per class.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder to write, a SavedModel.")],
    to: Annotated[Path | None, typer.Option(metavar="FILE.tflite", help="Also convert it to int8 for devices.")] = None,
    backbone: Annotated[BackboneName, typer.Option(help="Network trained on ImageNet to build on.")] = DEFAULT,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights of the backbone, if they cannot be downloaded.")
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(min=0, help="Also fine-tune the network while these minutes last; 0 trains only its last layer."),
    ] = 0,
    held_out: Annotated[
        float, typer.Option(min=0.05, max=0.5, help="Share of the photos to check with, never to train on.")
    ] = 0.2,
    folds: Annotated[int, typer.Option(min=1, max=20, help="Folds of the cross-validation; 1 skips it.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the report as HTML and as .json.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT and FILE.tflite if they exist.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a classifier on a folder of photos. An interrupted training continues with the same command."""
    from converter.report.training_page import write_training_report
    from converter.training.conversion import check_file, convert_trained
    from converter.training.training import TrainingRequest, train_and_write

    request = TrainingRequest(
        photos=dataset_dir,
        output=output,
        backbone=backbone,
        weights=weights,
        minutes=minutes,
        held_out=held_out,
        folds=folds,
        seed=seed,
        report=report,
        force=force,
    )
    if to is not None:
        check_file(to, request)
    written = False
    try:
        with terminal(debug=debug) as track:
            training = train_and_write(request, track=track)
            written = True
            if report is not None:  # already here: the conversion may fail
                write_training_report(report, training, None)
            conversion = convert_trained(training, request, to, track=track) if to is not None else None
    except KeyboardInterrupt:
        raise StoppedError(_how_to_go_on(request, to, written=written)) from None
    if report is not None and conversion is not None:
        write_training_report(report, training, conversion)
    _show(training, conversion, report, as_json=as_json)
    if conversion is not None:
        conversion.write()
        raise_refusals(conversion)


def _how_to_go_on(request: TrainingRequest, to: Path | None, *, written: bool) -> str:
    """`written`: whether the SavedModel is finished."""
    if not written:
        return "interrupted; the same command continues where this training was."
    splits = given_splits(request.photos)
    photos = splits.get("train", request.photos)
    checked = splits.get("test", splits.get("validation", request.photos))
    words = ("edge-convert", "convert", request.output, to, "--calibration", photos, "--evaluate", checked)
    return f"interrupted; {request.output} is finished, and {to} is not. Convert it: {shlex.join(map(str, words))}"


def _show(training: Training, conversion: Conversion | None, report: Path | None, *, as_json: bool) -> None:
    too_short = () if training.too_short is None else (training.too_short,)
    print_notes([*map(str, training.findings), *too_short, *(conversion.notes if conversion is not None else ())])
    if as_json:
        converted = {"conversion": conversion.to_json()} if conversion is not None else {}
        print_json(training.to_json() | converted | {"report": None if report is None else str(report)})
        return
    print_training(training)
    if conversion is not None:
        print_conversion(conversion)
    if report is not None:
        print(on_one_line(f"Report: {report}"))
