"""Preparation: what all schemes of one conversion share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from converter.errors import UsageError
from converter.evaluation.agreement import best_indices
from converter.evaluation.comparison import source_subject
from converter.images.calibration import calibrate
from converter.images.image_folder import list_images
from converter.packing.golden import choose_golden, golden_folder
from converter.quantization import Quantizer
from converter.source.feeding import moved_into_the_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.image import Image
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.saved_model import ImageFunction
    from converter.images.calibration import Calibration
    from converter.images.image_folder import ImageFolder
    from converter.packing.golden import Golden
    from converter.progress import Track
    from converter.request import Request

_GOLDEN_TOLERANCE = 0.1
_MOST_COMPARED = 50  # calibration images, if there are none to evaluate


@dataclass(frozen=True, slots=True)
class Folders:
    calibration: ImageFolder | None
    evaluation: ImageFolder | None
    golden: ImageFolder | None
    unknown: ImageFolder | None = None

    @classmethod
    def of(cls, request: Request) -> Folders:
        return cls(
            calibration=list_images(request.calibration) if request.calibration is not None else None,
            evaluation=list_images(request.evaluation) if request.evaluation is not None else None,
            golden=golden_folder(request.golden) if request.golden is not None else None,
            unknown=list_images(request.unknown) if request.unknown is not None else None,
        )

    @property
    def given(self) -> list[ImageFolder]:
        return [folder for folder in (self.calibration, self.evaluation, self.golden) if folder is not None]

    def check_truth(self, labels: Sequence[str]) -> None:
        """Fail now, not after minutes of work."""
        for folder in (self.evaluation, self.golden):
            if folder is not None:
                folder.truth(labels)
        if self.unknown is not None and self.evaluation is not None and not self.evaluation.class_names:
            raise UsageError(f"--unknown needs class folders in {self.evaluation.root}. Make one folder per class.")


@dataclass(frozen=True)
class Preparation:
    """`trained` is for the source, `packed` for the file: they differ in the steps moved into the file's graph."""

    request: Request
    function: ImageFunction
    trained: ModelSettings
    packed: ModelSettings
    quantizer: Quantizer
    calibration: Calibration | None
    golden: Golden | None

    @property
    def compared(self) -> tuple[Image, ...]:
        """The images on which source and file are compared if there are none to evaluate."""
        if self.calibration is None or self.request.evaluation is not None:
            return ()
        return self.calibration.images[:_MOST_COMPARED]

    @cached_property
    def source_best(self) -> list[int | None]:
        return best_indices(source_subject(self.function, self.trained).classifier, self.compared)


def prepare(
    request: Request, function: ImageFunction, trained: ModelSettings, folders: Folders, track: Track
) -> Preparation:
    raw_pixels = "int8" in request.schemes and request.pixels == "uint8"
    moved, packed = moved_into_the_graph(function, trained, raw_pixels=raw_pixels)
    golden = _golden(request, function, trained, folders.golden, track) if folders.golden is not None else None
    if folders.calibration is None or not request.quantizes:
        return Preparation(request, function, trained, packed, Quantizer(moved, None), None, golden)
    calibration = calibrate(folders.calibration, function.input, trained, track=track)
    quantizer = Quantizer(moved, lambda: calibration.representative(moved.input, packed))
    return Preparation(request, function, trained, packed, quantizer, calibration, golden)


def _golden(
    request: Request, function: ImageFunction, trained: ModelSettings, folder: ImageFolder, track: Track
) -> Golden:
    tolerance = _GOLDEN_TOLERANCE if request.golden_tolerance is None else request.golden_tolerance
    source = source_subject(function, trained).classifier
    return choose_golden(folder, source, tolerance=tolerance, track=track)
