"""Request: what is to be converted into what, as the command line states it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agent.models.settings import ModelSettings, parse_labels
from converter.errors import UsageError
from converter.quantization import INT8_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.models.settings import Resize
    from converter.image_folder import ImageFolder
    from converter.quantization import PixelType, Scheme
    from converter.signature import Size
    from converter.source import ImageFunction
    from converter.target import Target


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
    texts: dict[str, str] = field(default_factory=dict)
    calibration: Path | None = None
    evaluation: Path | None = None
    max_drop: float | None = None
    signature: str | None = None
    input_size: Size | None = None
    target: Target = "litert"
    target_python: Path | None = None
    keep_float: tuple[str, ...] = ()
    explain: bool = False
    force: bool = False

    @property
    def paths(self) -> dict[Scheme, Path]:
        """One file a scheme; several share a stem."""
        if len(self.schemes) == 1:
            return {self.schemes[0]: self.output}
        return {scheme: self.output.with_name(f"{self.output.stem}-{scheme}.tflite") for scheme in self.schemes}

    def check(self) -> None:
        """Raises UsageError for options that contradict one another."""
        if self.output.suffix != ".tflite":
            raise UsageError(f"{self.output} does not end in .tflite, so no agent would look at it.")
        int8 = any(scheme in INT8_SCHEMES for scheme in self.schemes)
        if int8 and self.calibration is None:
            raise UsageError("int8 measures its ranges on your images: give a folder of them, --calibration DIR.")
        if not int8 and (self.keep_float or self.explain):
            raise UsageError("--keep-float and --explain are about int8: give --quantize int8, or --all.")
        if self.max_drop is not None and self.evaluation is None:
            raise UsageError("--max-drop needs images to judge by: --evaluate DIR.")
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise UsageError("--mean and --std have different numbers of values: give one, or one a channel.")


def trained_settings(request: Request, function: ImageFunction, folders: Sequence[ImageFolder]) -> ModelSettings:
    channels, count = function.input.shape[3], max(function.output.shape)
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
    found = f" ({folders[0].root} has {len(folders[0].class_names)} class folders)" if folders else ""
    raise UsageError(f"The model has {count} outputs and nothing names them{found}: give --labels FILE, one a line.")
