"""Request: the options of one conversion, as given on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agent.model_file.completeness import GRAPH
from agent.model_file.labels import parse_labels
from agent.model_file.saved_model import read_saved_model
from agent.model_file.settings import ModelSettings, checked_numbers
from converter.errors import UsageError
from converter.output import check_output, check_report
from converter.quantization import INT8_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model_file.settings import Resample, Resize
    from agent.model_file.signature import Size
    from agent.runtimes.saved_model import ImageFunction
    from converter.images.image_folder import ImageFolder
    from converter.quantization import PixelType, Scheme
    from converter.target.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of one conversion. In training the input was (pixel - `mean`) / `std`.

    `stated` is what the source says of itself; options come before it.
    """

    source: Path
    output: Path
    schemes: tuple[Scheme, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color: Literal["rgb", "bgr"] = "rgb"
    resize: Resize | None = None
    resample: Resample | None = None
    pixels: PixelType = "uint8"
    labels: Path | None = None
    name: str | None = None
    version: str = "1"
    description: str = ""
    author: str = ""
    license: str = ""
    calibration: Path | None = None
    evaluation: Path | None = None
    unknown: Path | None = None
    max_drop: float | None = None
    golden: Path | None = None
    golden_tolerance: float | None = None
    report: Path | None = None
    signature: str | None = None
    output_name: str | None = None
    input_size: Size | None = None
    allow_code: bool = False
    target: Target = "litert"
    target_python: Path | None = None
    keep_float: tuple[str, ...] = ()
    explain: bool = False
    deploy: str | None = None
    force: bool = False
    stated: ModelSettings = field(default_factory=ModelSettings)

    @property
    def paths(self) -> dict[Scheme, Path]:
        """The file of each scheme; with several schemes, each name ends in its scheme."""
        if len(self.schemes) == 1:
            return {self.schemes[0]: self.output}
        return {scheme: self.output.with_name(f"{self.output.stem}-{scheme}.tflite") for scheme in self.schemes}

    @property
    def quantizes(self) -> bool:
        """Whether a scheme needs calibration."""
        return any(scheme in INT8_SCHEMES for scheme in self.schemes)

    @property
    def texts(self) -> dict[str, str]:
        """Descriptive metadata for people."""
        return {
            "name": self.name or self.output.stem,
            "version": self.version,
            "description": self.description,
            "author": self.author,
            "license": self.license,
        }

    def check(self) -> None:
        """Raises UsageError, before any work, if the options are wrong or an output cannot be written."""
        check_output(self.paths.values(), force=self.force)
        self._check_options()
        self._check_feeding()
        self._check_places()

    def _check_options(self) -> None:
        if self.quantizes and self.calibration is None:
            raise UsageError("int8 needs images to measure value ranges. Give a folder of images: --calibration DIR.")
        if not self.quantizes and (self.keep_float or self.explain):
            raise UsageError("--keep-float and --explain apply only to int8. Use --quantize int8 or --all.")
        if self.max_drop is not None and self.evaluation is None:
            raise UsageError("--max-drop needs an evaluation. Give a folder of images: --evaluate DIR.")
        if self.unknown is not None and self.evaluation is None:
            raise UsageError("--unknown needs photos of the labels too. Give a folder of images: --evaluate DIR.")
        if self.golden_tolerance is not None and self.golden is None:
            raise UsageError("--golden-tolerance needs golden samples. Give a folder of images: --golden DIR.")
        if self.report is not None and self.evaluation is None:
            raise UsageError("--report needs an evaluation. Give a folder of images: --evaluate DIR.")

    def _check_feeding(self) -> None:
        if max(map(abs, self.std)) < 1:
            raise UsageError(
                "--std below 1 is for pixels from 0 to 1, but here pixels are 0 to 255. Multiply the values by 255: "
                f"--mean {_times_255(self.mean)} --std {_times_255(self.std)}."
            )
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise UsageError("--mean and --std have different numbers of values. Give one value or one per channel.")

    def _check_places(self) -> None:
        if self.output.suffix != ".tflite":
            raise UsageError(f"{self.output} does not end in .tflite, so an agent would ignore it. Add .tflite.")
        if self.labels is not None and not self.labels.is_file():
            raise UsageError(f"{self.labels} is not a file. Give a text file with one label per line.")
        if self.source.is_dir() and self.source.resolve() in self.output.resolve().parents:
            raise UsageError(f"{self.output} is inside {self.source} and would change it. Use another folder.")
        if self.deploy is not None and ":" not in self.deploy:
            raise UsageError(f"--deploy {self.deploy} is not a remote folder. Use the form USER@HOST:/PATH.")
        if self.report is not None:
            check_report(self.report)


def parse_schemes(quantize: Scheme, input_type: str, *, every: bool) -> tuple[Scheme, ...]:
    """The schemes that --quantize, --input-type and --all select. Raises UsageError if the options conflict."""
    if input_type != "uint8" and (quantize != "int8" or (every and input_type == "float32")):
        raise UsageError(
            f"--input-type {input_type} requires --quantize int8. --all already writes a file with float32 input."
        )
    if every:
        return ("int8", "int8-float", "float16", "dynamic", "none")
    return ("int8-float",) if quantize == "int8" and input_type == "float32" else (quantize,)


def stated_settings(source: Path) -> ModelSettings:
    """What a SavedModel says of itself in assets.extra; without values for any other model. Raises ModelError."""
    return read_saved_model(source).settings if (source / GRAPH).is_file() else ModelSettings()


def parse_numbers(key: str, text: str | None, stated: tuple[float, ...] | None = None) -> tuple[float, ...]:
    """The values of --mean or --std, or else those that the model states. Raises UsageError."""
    if text is None and stated is not None:
        return stated
    if text is None:
        raise UsageError(
            "The model does not state the value range that it was trained on. Give --mean and --std: 0 and 255 for "
            "0..1, 127.5 and 127.5 for -1..1, 0 and 1 for 0..255 (also if the model has a Rescaling layer)."
        )
    try:
        return checked_numbers(key, [float(number) for number in text.split(",")])
    except ValueError:
        number = "nonzero number" if key == "std" else "number"
        raise UsageError(f"--{key} {text} is not valid. Give one {number}, or three separated by commas.") from None


def output_file(output: Path, *, source: Path, name: str | None) -> Path:
    """`output`; if that is a folder, a file in it named `name` or after the source. Raises UsageError."""
    if not output.is_dir():
        return output
    if name is not None and (name.startswith(".") or "/" in name):
        raise UsageError(f"--name {name} cannot be a file name in {output}. Give the whole path as OUTPUT.tflite.")
    own = source.resolve()
    return output / f"{name or (own.name if own.is_dir() else own.stem)}.tflite"


def _times_255(values: Sequence[float]) -> str:
    return ",".join(f"{255 * value:g}" for value in values)


def given_labels(request: Request) -> tuple[str, ...] | None:
    """The labels of --labels, or else those that the model states. Raises UsageError if the file cannot be read."""
    if request.labels is None:
        return request.stated.labels
    try:
        return parse_labels(request.labels.read_bytes(), where=str(request.labels))
    except OSError as error:
        raise UsageError(f"{request.labels} cannot be read: {error.strerror}.") from None


def label_counts(labels: Sequence[str] | None, folders: Sequence[ImageFolder]) -> set[int]:
    """How many labels there can be: those of --labels, or else as many as a folder has class folders."""
    if labels is not None:
        return {len(labels)}
    return {len(folder.class_names) for folder in folders if folder.names_classes}


def trained_settings(
    request: Request, function: ImageFunction, labels: tuple[str, ...] | None, folders: Sequence[ImageFolder]
) -> ModelSettings:
    """The settings of the source. Raises UsageError if the request does not fit the model."""
    channels, count = function.input.shape[3], max(function.output.shape)
    if "int" in function.trained_dtype and (set(request.mean), set(request.std)) != ({0.0}, {1.0}):
        raise UsageError(f"The model takes raw {function.trained_dtype} pixels. Use --mean 0 --std 1.")
    if channels == 1 and max(len(request.mean), len(request.std)) > 1:
        raise UsageError("--mean or --std has three values, but the model has one channel. Give one value for each.")
    values = max(len(request.mean), len(request.std))
    return ModelSettings(
        labels=_labels(request, labels, count, folders),
        mean=request.mean * (values // len(request.mean)),
        std=request.std * (values // len(request.std)),
        color="gray" if channels == 1 else request.color,
        resize=request.resize,
        resample=request.resample,
    )


def _labels(
    request: Request, labels: tuple[str, ...] | None, count: int, folders: Sequence[ImageFolder]
) -> tuple[str, ...]:
    """The labels of --labels, or the names of the class folders in the order in which Keras numbers them."""
    fitting = (1, 2) if count == 1 else (count,)
    outputs, wanted = f"{count} outputs", "one label per output"
    if count == 1:
        outputs, wanted = "one output p", "two labels, the first for 1 - p and the second for p, or one label for p"
    if labels is not None:
        if len(labels) in fitting:
            return labels
        raise UsageError(
            f"{request.labels or request.source} has {len(labels)} labels, but the model has {outputs}. Give {wanted}."
        )
    for folder in folders:
        if folder.names_classes and len(folder.class_names) in fitting:
            return folder.class_names
    found = "; ".join(f"{folder.root} has {_class_folders(folder)}" for folder in folders)
    where = f" ({found})" if found else ""
    raise UsageError(
        f"The model has {outputs}, but there are no labels for {'it' if count == 1 else 'them'}{where}. Give a file "
        f"with one label per line: --labels FILE."
    )


def _class_folders(folder: ImageFolder) -> str:
    names = folder.class_names
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    empty = f" (and {', '.join(folder.empty)} without a readable image)" if folder.empty else ""
    return f"{len(names)} class folders: {shown}{empty}" if names else "no class folders"
