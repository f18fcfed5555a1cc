"""The command `edge-convert evaluate`: evaluates a finished file on labeled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.host.terminal import print_json
from converter.commands.options import AllowCode, Debug, Json, MaxDrop, Report, Signature
from converter.errors import DropError, UsageError
from converter.evaluation.evaluation import percent
from converter.output import check_report
from converter.terminal import print_evaluation, print_notes, print_resampling, terminal

if TYPE_CHECKING:
    from converter.evaluation.resampling import ResamplingComparison


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="Finished file; its sidecars are used too.")],
    images: Annotated[Path, typer.Argument(metavar="DIR", help="Images, one folder per class.")],
    source: Annotated[
        Path | None,
        typer.Option(metavar="SAVED_MODEL", help="Trained model that the file was made from, to compare with."),
    ] = None,
    unknown: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos of other things, to count those that get a label.")
    ] = None,
    signature: Signature = None,
    resample: Annotated[
        Literal["antialias", "bilinear", "nearest", "bicubic", "area", "all"] | None,
        typer.Option(help="Scale images like this, whatever the file says; all compares the methods."),
    ] = None,
    allow_code: AllowCode = False,
    max_drop: MaxDrop = None,
    report: Report = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Evaluate a finished file on labeled images, alone or against its source."""
    from converter.evaluation.comparison import compare, compare_methods
    from converter.report.page import write_report

    if max_drop is not None and source is None:
        raise UsageError("--max-drop needs the source to compare with. Give it with --source SAVED_MODEL.")
    if resample == "all" and source is not None:
        raise UsageError("--resample all compares the methods for the file alone. Leave out --source.")
    if resample == "all" and unknown is not None:
        raise UsageError("--resample all compares the methods on images of the labels. Leave out --unknown.")
    if report is not None:
        check_report(report)
    comparison: ResamplingComparison | None = None
    with terminal(debug=debug) as track:
        if resample == "all":
            evaluation, comparison, notes = compare_methods(model, images, track=track)
        else:
            evaluation, notes = compare(
                model,
                images,
                source=source,
                signature=signature,
                resample=resample,
                allow_code=allow_code,
                unknown=unknown,
                track=track,
            )
    print_notes(notes)
    if report is not None:
        write_report(report, evaluation, title=evaluation.model.name, facts={"Images": str(images)})
    if as_json:
        print_json(evaluation.to_json() | ({"resampling": comparison.to_json()} if comparison else {}))
    else:
        print_evaluation(evaluation)
        if comparison is not None:
            print_resampling(comparison)
    if max_drop is not None and evaluation.drop > max_drop:
        raise DropError(f"Top-1 accuracy dropped by {percent(evaluation.drop)}. --max-drop allows {percent(max_drop)}.")
