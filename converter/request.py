"""Request: what is to be converted into what, as the command line states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.model_file.settings import ModelSettings, checked_numbers, parse_labels
from converter.errors import UsageError
from converter.output import check_output, check_report
from converter.quantization import INT8_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model_file.settings import Resize
    from agent.model_file.signature import Size
    from agent.runtimes.saved_model import ImageFunction
    from converter.images.image_folder import ImageFolder
    from converter.quantization import PixelType, Scheme
    from converter.target.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be converted into what. `mean` and `std`: (pixel - mean) / std is what training fed."""

    source: Path
    output: Path
    schemes: tuple[Scheme, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Literal["rgb", "bgr"] = "rgb"
    resize: Resize | None = None
    pixels: PixelType = "uint8"
    labels: Path | None = None
    name: str | None = None
    version: str = "1"
    description: str = ""
    author: str = ""
    license: str = ""
    calibration: Path | None = None
    evaluation: Path | None = None
    max_drop: float | None = None
    golden: Path | None = None
    golden_tolerance: float | None = None
    report: Path | None = None
    signature: str | None = None
    input_size: Size | None = None
    target: Target = "litert"
    target_python: Path | None = None
    keep_float: tuple[str, ...] = ()
    explain: bool = False
    deploy: str | None = None
    force: bool = False

    @property
    def paths(self) -> dict[Scheme, Path]:
        """One file a scheme; several share a stem."""
        if len(self.schemes) == 1:
            return {self.schemes[0]: self.output}
        return {scheme: self.output.with_name(f"{self.output.stem}-{scheme}.tflite") for scheme in self.schemes}

    @property
    def quantizes(self) -> bool:
        """Whether ranges have to be measured."""
        return any(scheme in INT8_SCHEMES for scheme in self.schemes)

    @property
    def texts(self) -> dict[str, str]:
        """What the file says of itself, for people."""
        return {
            "name": self.name or self.output.stem,
            "version": self.version,
            "description": self.description,
            "author": self.author,
            "license": self.license,
        }

    def check(self) -> None:
        """Raises UsageError, before any work, for what cannot be done or written."""
        check_output(self.paths.values(), force=self.force)
        self._check_options()
        self._check_feeding()
        self._check_places()

    def _check_options(self) -> None:
        if self.quantizes and self.calibration is None:
            raise UsageError("int8 measures its ranges on your images: give a folder of them, --calibration DIR.")
        if not self.quantizes and (self.keep_float or self.explain):
            raise UsageError("--keep-float and --explain are about int8: give --quantize int8, or --all.")
        if self.max_drop is not None and self.evaluation is None:
            raise UsageError("--max-drop needs images to judge by: --evaluate DIR.")
        if self.golden_tolerance is not None and self.golden is None:
            raise UsageError("--golden-tolerance is about golden samples: give a folder of them, --golden DIR.")
        if self.report is not None and self.evaluation is None:
            raise UsageError("--report is the page of an evaluation: it needs images, --evaluate DIR.")

    def _check_feeding(self) -> None:
        if max(map(abs, self.std)) < 1:
            raise UsageError(
                "--std below 1 is meant for pixels of 0 to 1, and here they are 0 to 255: give 255 times the values, "
                f"--mean {_times_255(self.mean)} --std {_times_255(self.std)}."
            )
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise UsageError("--mean and --std have different numbers of values: give one, or one a channel.")

    def _check_places(self) -> None:
        if self.output.suffix != ".tflite":
            raise UsageError(f"{self.output} does not end in .tflite, so no agent would look at it.")
        if self.labels is not None and not self.labels.is_file():
            raise UsageError(f"{self.labels} is no file: give the labels, one a line.")
        if self.source.is_dir() and self.source.resolve() in self.output.resolve().parents:
            raise UsageError(f"{self.output} lies inside {self.source}, which it would change: write it elsewhere.")
        if self.deploy is not None and ":" not in self.deploy:
            raise UsageError(f"--deploy {self.deploy} names no folder on another machine: USER@HOST:/PATH.")
        if self.report is not None:
            check_report(self.report)


def parse_schemes(quantize: Scheme, input_type: str, *, every: bool) -> tuple[Scheme, ...]:
    """What --quantize, --input-type and --all ask for together. UsageError if they contradict one another."""
    if input_type != "uint8" and (quantize != "int8" or (every and input_type == "float32")):
        raise UsageError(f"--input-type {input_type} is about --quantize int8, and --all has float32 among its files.")
    if every:
        return ("int8", "int8-float", "float16", "dynamic", "none")
    return ("int8-float",) if quantize == "int8" and input_type == "float32" else (quantize,)


def parse_numbers(key: str, text: str | None) -> tuple[float, ...]:
    """What --mean or --std says. UsageError."""
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


def output_file(output: Path, *, source: Path, name: str | None) -> Path:
    """`output`, or if that is a folder, the file in it that is called `name`, or like the source. UsageError."""
    if not output.is_dir():
        return output
    if name is not None and (name.startswith(".") or "/" in name):
        raise UsageError(f"--name {name} cannot name a file in {output}: give OUTPUT.tflite.")
    own = source.resolve()
    return output / f"{name or (own.name if own.is_dir() else own.stem)}.tflite"


def _times_255(values: Sequence[float]) -> str:
    return ",".join(f"{255 * value:g}" for value in values)


def trained_settings(request: Request, function: ImageFunction, folders: Sequence[ImageFolder]) -> ModelSettings:
    """How the source is fed. Raises UsageError where the request does not fit the model."""
    channels, count = function.input.shape[3], max(function.output.shape)
    if "int" in function.trained_dtype and (set(request.mean), set(request.std)) != ({0.0}, {1.0}):
        raise UsageError(f"The model takes {function.trained_dtype} pixels as they are: give --mean 0 --std 1.")
    if channels == 1 and max(len(request.mean), len(request.std)) > 1:
        raise UsageError("--mean and --std have three values, and the model takes one channel: give one of each.")
    values = max(len(request.mean), len(request.std))
    return ModelSettings(
        labels=_labels(request, count, folders),
        mean=request.mean * (values // len(request.mean)),
        std=request.std * (values // len(request.std)),
        color="gray" if channels == 1 else request.color,
        resize=request.resize,
    )


def _labels(request: Request, count: int, folders: Sequence[ImageFolder]) -> tuple[str, ...]:
    """Those of --labels; else the names of the class folders, in the order in which Keras numbers them."""
    if request.labels is not None:
        try:
            labels = parse_labels(request.labels.read_bytes(), where=str(request.labels))
        except OSError as error:
            raise UsageError(f"{request.labels} cannot be read: {error.strerror}.") from None
        if len(labels) != count:
            raise UsageError(f"{request.labels} has {len(labels)} labels, and the model has {count} outputs.")
        return labels
    for folder in folders:
        if len(folder.class_names) == count:
            return folder.class_names
    found = "; ".join(f"{folder.root} has {_class_folders(folder)}" for folder in folders)
    where = f" ({found})" if found else ""
    raise UsageError(f"The model has {count} outputs and nothing names them{where}: give --labels FILE, one a line.")


def _class_folders(folder: ImageFolder) -> str:
    names = folder.class_names
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} class folders: {shown}" if names else "no class folders"
