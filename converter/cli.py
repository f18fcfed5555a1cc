"""The command line: `edge-convert`; exits with 0 done, 1 failed, 2 usage, 130 interrupted."""

from __future__ import annotations

import re
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.errors import AgentError, SignatureError
from agent.host.terminal import harmless, print_json
from converter.errors import ConversionError, DropError, UsageError
from converter.evaluation.evaluation import percent
from converter.output import check_output, write_whole
from converter.terminal import (
    in_words,
    print_conversion,
    print_evaluation,
    print_inspection,
    print_notes,
    terminal,
)

if TYPE_CHECKING:
    from converter.conversion import Conversion, FinishedModel
    from converter.evaluation.evaluation import Evaluation
    from converter.quantization import Scheme

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turns a trained model into one finished, proven .tflite file.",
)

SourcePath = Annotated[
    Path, typer.Argument(metavar="SAVED_MODEL", help="A SavedModel folder, a .keras or an .h5 file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show TensorFlow's own messages, and tracebacks.")]
Signature = Annotated[str | None, typer.Option(metavar="KEY", help="Of several signatures, the one to take.")]
InputSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="Height and width, where the model leaves them open.")
]
Report = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the evaluation as a page, and as .json.")]
MaxDrop = Annotated[
    float | None, typer.Option(min=0, max=1, help="Refuse when top-1 falls by more: 0.01 is one point in a hundred.")
]
PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Holds the password and nothing else; without it you are asked.")
]


def main() -> None:
    """The entry point: errors that a person can act on are one sentence, tracebacks only with --debug."""
    debug = "--debug" in sys.argv[1:]
    try:
        app()
    except AgentError as error:
        if debug:
            traceback.print_exc()
        print(f"edge-convert: {harmless(str(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError | SignatureError) else 1)
    except OSError as error:  # of a path that cannot even be looked at
        if debug:
            traceback.print_exc()
        print(f"edge-convert: {harmless(str(error.filename))}: {error.strerror}.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:  # so typer ends on Ctrl-C, without a word
            print("edge-convert: interrupted; nothing half-written is left.", file=sys.stderr)
        raise


@app.command()
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
    from converter.request import Request
    from converter.target.target import parse_target

    if deploy is not None and ":" not in deploy:
        raise UsageError(f"--deploy {deploy} names no folder on another machine: USER@HOST:/PATH.")
    if input_type != "uint8" and (quantize != "int8" or (every and input_type == "float32")):
        raise UsageError(f"--input-type {input_type} is about --quantize int8, and --all has float32 among its files.")
    if output.is_dir():
        if name is not None and (name.startswith(".") or "/" in name):
            raise UsageError(f"--name {name} cannot name a file in {output}: give OUTPUT.tflite.")
        own = saved_model.resolve()
        output /= f"{name or (own.name if own.is_dir() else own.stem)}.tflite"
    texts = {
        "name": name or output.stem,
        "version": version,
        "description": description,
        "author": author,
        "license": license_,
    }
    request = Request(
        source=saved_model,
        output=output,
        schemes=_schemes(quantize, input_type, every=every),
        mean=_numbers("mean", mean),
        std=_numbers("std", std),
        color=color,
        resize=None if resize == "stretch" else resize,
        pixels="int8" if input_type == "int8" else "uint8",
        labels=labels,
        texts=texts,
        calibration=calibration,
        evaluation=evaluate,
        max_drop=max_drop,
        golden=golden,
        golden_tolerance=golden_tolerance,
        signature=signature,
        input_size=_size(input_size),
        target=parse_target(target),
        target_python=target_python,
        keep_float=tuple(keep_float or ()),
        explain=explain,
        force=force,
    )
    if report is not None and evaluate is None:
        raise UsageError("--report is the page of an evaluation: it needs images, --evaluate DIR.")
    _check_report(report)
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


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="A finished file, with its sidecars.")],
    images: Annotated[Path, typer.Argument(metavar="DIR", help="Images, a folder a class.")],
    source: Annotated[
        Path | None, typer.Option(metavar="SAVED_MODEL", help="Compare with the model that it was made from.")
    ] = None,
    signature: Signature = None,
    max_drop: MaxDrop = None,
    report: Report = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a finished file on labelled images, alone or against its source."""
    from converter.evaluation.comparison import compare

    if max_drop is not None and source is None:
        raise UsageError("--max-drop compares with the source: give it, --source SAVED_MODEL.")
    _check_report(report)
    with terminal(debug=debug) as track:
        evaluation, notes = compare(model, images, source=source, signature=signature, track=track)
    print_notes(notes)
    if report is not None:
        _write_report(report, evaluation, {"Images": str(images)})
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation)
    if max_drop is not None and evaluation.drop > max_drop:
        raise DropError(f"{percent(evaluation.drop)} of top-1 are lost, and --max-drop allows {percent(max_drop)}.")


@app.command()
def inspect(saved_model: SourcePath, input_size: InputSize = None, as_json: Json = False, debug: Debug = False) -> None:
    """Show how a trained model is called, and whether it can become an image classifier on a device."""
    from converter.inspection import inspect_source

    size = _size(input_size)
    with terminal(debug=debug) as track:
        document = inspect_source(saved_model, size=size, track=track)
    if as_json:
        print_json(document)
    else:
        print_inspection(document)


@app.command()
def keygen(
    key: Annotated[
        Path, typer.Argument(metavar="KEY", help="The secret key's file; for birds.key the public one is birds.pub.")
    ],
    password_file: PasswordFile = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Whoever can read KEY can sign: for machines that sign by themselves.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace KEY and its public key.")] = False,
    as_json: Json = False,
) -> None:
    """Make a pair of keys as minisign does: one to sign models with, one for the agents that shall trust them."""
    from agent.security.minisign import key_name
    from converter.signing import SecretKey, public_key_file, secret_key_file

    if no_password and password_file is not None:
        raise UsageError("--no-password and --password-file exclude each other.")
    public = key.with_suffix(".pub") if key.suffix == ".key" else key.with_name(f"{key.name}.pub")
    check_output((key, public), force=force)
    password = None if no_password else _password(password_file, new=True)
    secret = SecretKey.new()
    write_whole(key, secret_key_file(secret, password), mode=0o600)
    write_whole(public, public_key_file(secret.public))
    name = key_name(secret.id)
    if as_json:
        print_json({"secret_key": str(key), "public_key": str(public), "key_id": name})
    else:
        print(f"Secret key: {key}, which signs; keep it where no device is.")
        print(f"Public key: {public}, {name}; copy it into the trusted keys of the devices.")


@app.command()
def sign(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="A finished file.")],
    key: Annotated[Path, typer.Option(metavar="KEY", help="The secret key of keygen, or of minisign.")],
    version: Annotated[
        int | None, typer.Option(min=0, max=10**18 - 1, help="Signed too, so that no older one can take its place.")
    ] = None,
    password_file: PasswordFile = None,
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="Signed too, for people.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the signature.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a finished file as minisign does: the signature goes to MODEL.tflite.minisig, beside it."""
    from agent.security.minisign import key_name
    from converter.signing import read_secret_key, signature_file, trusted_comment

    if not model.is_file():
        raise UsageError(f"{model} is no file: give the finished .tflite.")
    signature = model.with_name(f"{model.name}.minisig")
    check_output([signature], force=force)
    said = trusted_comment(model.name, timestamp_s=int(time.time()), version=version, words=comment)
    secret = read_secret_key(key, password=lambda: _password(password_file, new=False))
    write_whole(signature, signature_file(model, secret, comment=said))
    if as_json:
        print_json({"signature": str(signature), "key_id": key_name(secret.id), "trusted_comment": said})
    else:
        print(f"Signature: {signature}, by {key_name(secret.id)}; copy it before the model, or with it.")


def _password(file: Path | None, *, new: bool) -> bytes:
    """From `file`, else from the terminal, where a new one is asked for twice."""
    from converter.signing import read_password

    if file is not None:
        password = read_password(file)
        if new and not password:
            raise UsageError(f"{file} is empty: put a password into it, or say --no-password.")
        return password
    if not sys.stdin.isatty():
        other = ", or --no-password" if new else ""
        raise UsageError(f"There is no terminal to ask for the password on: give --password-file FILE{other}.")
    default = None if new else ""
    asked: str = typer.prompt(
        "Password", hide_input=True, confirmation_prompt=new, default=default, show_default=False, err=True
    )
    return asked.encode()


def _schemes(quantize: Scheme, input_type: str, *, every: bool) -> tuple[Scheme, ...]:
    if every:
        return ("int8", "int8-float", "float16", "dynamic", "none")
    return ("int8-float",) if quantize == "int8" and input_type == "float32" else (quantize,)


def _numbers(key: str, text: str | None) -> tuple[float, ...]:
    from agent.model_file.settings import checked_numbers

    if text is None:
        raise UsageError(
            "Nothing in the model says which range of values it was trained on: give --mean and --std. 0 and 255 feed "
            "0..1, 127.5 and 127.5 feed -1..1, 0 and 1 feed 0..255, as to a model with a Rescaling layer inside."
        )
    try:
        return checked_numbers(key, [float(number) for number in text.split(",")])
    except ValueError:
        other = ", none of them 0" if key == "std" else ""
        raise UsageError(f"--{key} {text} is not one number or three with commas{other}.") from None


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise UsageError(f"--input-size {text} is not HEIGHTxWIDTH, such as 224x224.")
    return int(found[1]), int(found[2])


def _check_report(path: Path | None) -> None:
    """Before minutes of work."""
    if path is None:
        return
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"--report {path}: the page's name ends in .html; its figures go beside it as .json.")
    check_output([path, path.with_suffix(".json")], force=True)
    if path.with_suffix(".json").exists() and not path.exists():
        raise UsageError(f"{path.with_suffix('.json')} exists and is of no earlier report: give another name.")


def _write_reports(path: Path, conversion: Conversion) -> list[Path]:
    """One page a scheme, of refused models too; where they are."""
    several = len(conversion.models) > 1
    pages: list[Path] = []
    for model in conversion.models:
        if model.evaluation is not None:
            pages.append(path.with_stem(f"{path.stem}-{model.scheme}") if several else path)
            _write_report(pages[-1], model.evaluation, _facts(conversion, model))
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


def _write_report(path: Path, evaluation: Evaluation, facts: dict[str, str]) -> None:
    from converter.report.page import write_report

    write_report(path, evaluation, title=evaluation.model.name, facts=facts)


if __name__ == "__main__":
    main()
