"""The command `edge-convert convert`: converts a trained model to finished files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from agent.host.terminal import on_one_line, print_json
from converter.commands.options import (
    AllowCode,
    Debug,
    InputSize,
    Json,
    MaxDrop,
    Report,
    Signature,
    SourcePath,
    parse_size,
)
from converter.errors import ConversionError
from converter.terminal import in_words, print_conversion, print_notes, terminal

if TYPE_CHECKING:
    from converter.conversion import Conversion
    from converter.finished_model import FinishedModel


T = TypeVar("T", bound=str)

_Output = Annotated[Path, typer.Argument(metavar="OUTPUT.tflite", help="File to write, or an existing folder for it.")]
_Mean = Annotated[
    str | None, typer.Option(help="Training input was (pixel - MEAN) / STD. One number, or three as R,G,B.")
]
_Std = Annotated[
    str | None,
    typer.Option(help="See --mean. Mean 0 and std 255 for 0..1; 127.5 and 127.5 for -1..1; 0 and 1 for 0..255."),
]
_Quantize = Annotated[
    Literal["int8", "float16", "dynamic", "none"],
    typer.Option(help="Quantization scheme; int8 is the fastest on every board."),
]
_Calibration = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Images for int8 calibration, with or without one folder per class."),
]
_Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Text file with one label per line; default: sorted names of class folders."),
]
_Evaluate = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Images (one folder per class) on which to compare source and file."),
]
_Unknown = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Photos of other things, which the file should not give any label."),
]
_Golden = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Labeled images (one folder per class) to pack as golden samples; a device serves the model only if "
        "it labels them correctly.",
    ),
]
_GoldenTolerance = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of golden samples that may fail; default: 0.1.")
]
_OutputName = Annotated[
    str | None,
    typer.Option("--output", metavar="NAME", help="Output with the scores if the model has several outputs."),
]
_InputType = Annotated[
    Literal["uint8", "int8", "float32"],
    typer.Option(help="Type of the input and output of an int8 model; uint8 takes raw pixels."),
]
_Resize = Annotated[
    Literal["stretch", "crop", "pad"] | None,
    typer.Option(help="How training fitted images to the input size; default: stretch."),
]
_Resample = Annotated[
    Literal["antialias", "bilinear", "nearest", "bicubic", "area"] | None,
    typer.Option(
        help="How training scaled images: antialias as Pillow (default), nearest as load_img of Keras, the others as "
        "tf.image.resize."
    ),
]
_Color = Annotated[Literal["rgb", "bgr"] | None, typer.Option(help="Channel order in training; default: rgb.")]
_Target = Annotated[str, typer.Option(help="Runtime on the device: litert, tflite-runtime or tflite-runtime==2.14.")]
_TargetPython = Annotated[
    Path | None,
    typer.Option(metavar="PYTHON", help="Python with tflite-runtime, in which --target tflite-runtime loads the file."),
]
_KeepFloat = Annotated[
    list[str] | None, typer.Option(metavar="LAYER", help="Keep this layer in float; can be repeated.")
]
_Deploy = Annotated[
    str | None, typer.Option(metavar="USER@HOST:/PATH", help="Print the rsync command that copies the file there.")
]
_Force = Annotated[
    bool, typer.Option("--force", help="Replace OUTPUT if it exists, and write it even if it answers by chance.")
]


def convert(
    saved_model: SourcePath,
    output: _Output,
    mean: _Mean = None,
    std: _Std = None,
    quantize: _Quantize = "int8",
    every: Annotated[bool, typer.Option("--all", help="Write one file per scheme and compare them.")] = False,
    calibration: _Calibration = None,
    labels: _Labels = None,
    name: Annotated[str | None, typer.Option(help="Model name; default: the name of OUTPUT.")] = None,
    version: Annotated[str, typer.Option(help="Version in the metadata; the agent numbers versions itself.")] = "1",
    description: Annotated[str, typer.Option(help="What the model classifies.")] = "",
    author: Annotated[str, typer.Option(help="Author of the model.")] = "",
    license_: Annotated[str, typer.Option("--license", help="License of the model.")] = "",
    evaluate: _Evaluate = None,
    unknown: _Unknown = None,
    max_drop: MaxDrop = None,
    golden: _Golden = None,
    golden_tolerance: _GoldenTolerance = None,
    report: Report = None,
    signature: Signature = None,
    output_name: _OutputName = None,
    input_size: InputSize = None,
    allow_code: AllowCode = False,
    input_type: _InputType = "uint8",
    color: _Color = None,
    resize: _Resize = None,
    resample: _Resample = None,
    target: _Target = "litert",
    target_python: _TargetPython = None,
    keep_float: _KeepFloat = None,
    explain: Annotated[bool, typer.Option("--explain", help="Rank the layers by the error that int8 adds.")] = False,
    deploy: _Deploy = None,
    force: _Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert, quantize, label, check and evaluate a model. OUTPUT is written only if every step succeeds.

    A SavedModel of edge-convert train needs no --mean, --std, --color, --resize, --resample and --labels.
    """
    from converter.conversion import convert
    from converter.request import Request, output_file, parse_numbers, parse_schemes, stated_settings
    from converter.source.source import check_source
    from converter.target.target import parse_target

    check_source(saved_model)
    stated = stated_settings(saved_model)
    request = Request(
        source=saved_model,
        stated=stated,
        output=output_file(output, source=saved_model, name=name),
        schemes=parse_schemes(quantize, input_type, every=every),
        mean=parse_numbers("mean", mean, stated.mean),
        std=parse_numbers("std", std, stated.std),
        color=color or ("bgr" if stated.color == "bgr" else "rgb"),
        resize=_unless("stretch", resize or stated.resize),
        resample=_unless("antialias", resample or stated.resample),
        pixels="int8" if input_type == "int8" else "uint8",
        labels=labels,
        name=name,
        version=version,
        description=description,
        author=author,
        license=license_,
        calibration=calibration,
        evaluation=evaluate,
        unknown=unknown,
        max_drop=max_drop,
        golden=golden,
        golden_tolerance=golden_tolerance,
        report=report,
        signature=signature,
        output_name=output_name,
        allow_code=allow_code,
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
    commands = [model.rsync(deploy) for model in conversion.accepted] if deploy is not None else []
    _show(conversion, pages, commands, as_json=as_json)
    raise_refusals(conversion)


def _unless(default: str, value: T | None) -> T | None:
    """None for the agent's default, which a file need not state."""
    return None if value == default else value


def _show(conversion: Conversion, pages: list[Path], commands: list[str], *, as_json: bool) -> None:
    print_notes(conversion.notes)
    if as_json:
        print_json(conversion.to_json() | {"reports": [str(page) for page in pages], "deploy": commands})
        return
    print_conversion(conversion)
    for line in (*(f"Report: {page}" for page in pages), *commands):
        print(on_one_line(line))


def _write_reports(path: Path, conversion: Conversion) -> list[Path]:
    """Write one page per scheme, also for refused models; returns the paths."""
    from converter.report.page import write_report

    several = len(conversion.models) > 1
    pages: list[Path] = []
    for model in conversion.models:
        if model.evaluation is not None:
            pages.append(path.with_stem(f"{path.stem}-{model.scheme}") if several else path)
            title, facts = model.evaluation.model.name, _facts(conversion, model)
            write_report(pages[-1], model.evaluation, title=title, facts=facts)
    return pages


def raise_refusals(conversion: Conversion) -> None:
    refused = [(model.scheme, model.refusal) for model in conversion.models if model.refusal is not None]
    if len(conversion.models) == 1 and refused:
        raise refused[0][1]
    if refused:
        print_notes([f"{scheme}: {refusal}" for scheme, refusal in refused])
        raise ConversionError(f"{len(refused)} of {len(conversion.models)} files were not written.")


def _facts(conversion: Conversion, model: FinishedModel) -> dict[str, str]:
    function, settings = conversion.function, conversion.settings
    return {
        "Outcome": "accepted" if model.refusal is None else f"Refused, not written: {model.refusal}",
        "Source": f"{function.trained.kind}, signature {function.key}",
        "Scheme": model.scheme,
        "Calibration images": str(conversion.calibration_images),
        "Fed": f"{settings.color}, mean {in_words(settings.mean)}, std {in_words(settings.std)}",
        "Resample": settings.resample or "antialias",
        "Target": model.checked,
    }
