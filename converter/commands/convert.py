"""The command `edge-convert convert`: a trained model in, finished files out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.host.terminal import print_json
from converter.commands.options import Debug, InputSize, Json, MaxDrop, Report, Signature, SourcePath, parse_size
from converter.errors import ConversionError
from converter.terminal import in_words, print_conversion, print_notes, terminal

if TYPE_CHECKING:
    from converter.conversion import Conversion, FinishedModel


def convert(
    saved_model: SourcePath,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT.tflite", help="The file, or a folder, such as an agent's.")],
    mean: Annotated[
        str | None, typer.Option(help="(pixel - MEAN) / STD is what training fed: one number or R,G,B.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Mean 0, std 255: 0..1; 127.5, 127.5: -1..1; 0, 1: 0..255.")] = None,
    quantize: Annotated[
        Literal["int8", "float16", "dynamic", "none"], typer.Option(help="int8 is the fastest on every board.")
    ] = "int8",
    every: Annotated[bool, typer.Option("--all", help="Every scheme, each in a file of its own, compared.")] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images from which int8 measures its ranges: flat or a folder a class."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One label a line; without it the class folders' names, sorted.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Default: that of OUTPUT.")] = None,
    version: Annotated[str, typer.Option(help="For people; the agent counts its own.")] = "1",
    description: Annotated[str, typer.Option(help="What the model tells apart.")] = "",
    author: Annotated[str, typer.Option(help="Who made it.")] = "",
    license_: Annotated[str, typer.Option("--license", help="Of the model.")] = "",
    evaluate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images, a folder a class, to compare source and file on.")
    ] = None,
    max_drop: MaxDrop = None,
    golden: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images, a folder a class, to pack: a device serves what answers them so."),
    ] = None,
    golden_tolerance: Annotated[
        float | None, typer.Option(min=0, max=1, help="The share of these that may be answered otherwise; 0.1.")
    ] = None,
    report: Report = None,
    signature: Signature = None,
    input_size: InputSize = None,
    input_type: Annotated[
        Literal["uint8", "int8", "float32"], typer.Option(help="Of int8's input and output; uint8 takes raw pixels.")
    ] = "uint8",
    color: Annotated[Literal["rgb", "bgr"], typer.Option(help="The order that training fed.")] = "rgb",
    resize: Annotated[
        Literal["stretch", "crop", "pad"], typer.Option(help="How training fitted images of another shape.")
    ] = "stretch",
    target: Annotated[str, typer.Option(help="litert, tflite-runtime or tflite-runtime==2.14.")] = "litert",
    target_python: Annotated[
        Path | None,
        typer.Option(metavar="PYTHON", help="A Python that has tflite-runtime, to really load the file with."),
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Leave this layer float; may be said several times.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Rank the layers by what int8 does to them.")] = False,
    deploy: Annotated[
        str | None, typer.Option(metavar="USER@HOST:/PATH", help="Print the rsync line that copies the file there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert, quantise, label, check and evaluate; OUTPUT is written only if all of it went well."""
    from converter.conversion import convert
    from converter.request import Request, output_file, parse_numbers, parse_schemes
    from converter.target.target import parse_target

    request = Request(
        source=saved_model,
        output=output_file(output, source=saved_model, name=name),
        schemes=parse_schemes(quantize, input_type, every=every),
        mean=parse_numbers("mean", mean),
        std=parse_numbers("std", std),
        color=color,
        resize=None if resize == "stretch" else resize,
        pixels="int8" if input_type == "int8" else "uint8",
        labels=labels,
        name=name,
        version=version,
        description=description,
        author=author,
        license=license_,
        calibration=calibration,
        evaluation=evaluate,
        max_drop=max_drop,
        golden=golden,
        golden_tolerance=golden_tolerance,
        report=report,
        signature=signature,
        input_size=parse_size(input_size),
        target=parse_target(target),
        target_python=target_python,
        keep_float=tuple(keep_float or ()),
        explain=explain,
        deploy=deploy,
        force=force,
    )
    with terminal(debug=debug) as track:
        conversion = convert(request, track=track)
    pages = _write_reports(report, conversion) if report is not None else []
    conversion.write()
    lines = [model.rsync(deploy) for model in conversion.accepted] if deploy is not None else []
    print_notes(conversion.notes)
    if as_json:
        print_json(conversion.to_json() | {"reports": [str(page) for page in pages], "deploy": lines})
    else:
        print_conversion(conversion)
        print("".join(f"{line}\n" for line in (*(f"Report: {page}" for page in pages), *lines)), end="")
    _raise_refusals(conversion)


def _write_reports(path: Path, conversion: Conversion) -> list[Path]:
    """One page a scheme, of refused models too; where they are."""
    from converter.report.page import write_report

    several = len(conversion.models) > 1
    pages: list[Path] = []
    for model in conversion.models:
        if model.evaluation is not None:
            pages.append(path.with_stem(f"{path.stem}-{model.scheme}") if several else path)
            title, facts = model.evaluation.model.name, _facts(conversion, model)
            write_report(pages[-1], model.evaluation, title=title, facts=facts)
    return pages


def _raise_refusals(conversion: Conversion) -> None:
    refused = [(model.scheme, model.refusal) for model in conversion.models if model.refusal is not None]
    if len(conversion.models) == 1 and refused:
        raise refused[0][1]
    if refused:
        raise ConversionError("\n".join(f"{scheme}: {refusal}" for scheme, refusal in refused))


def _facts(conversion: Conversion, model: FinishedModel) -> dict[str, str]:
    function, settings = conversion.function, conversion.settings
    return {
        "Outcome": "accepted" if model.refusal is None else f"Refused, not written: {model.refusal}",
        "Source": f"{function.trained.kind}, signature {function.key}",
        "Scheme": model.scheme,
        "Calibration images": str(conversion.calibration_images),
        "Fed": f"{settings.color}, mean {in_words(settings.mean)}, std {in_words(settings.std)}",
        "Target": model.checked,
    }
