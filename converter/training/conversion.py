"""Conversion of a training: its SavedModel to a .tflite file, calibrated and evaluated on the same photos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.conversion import convert
from converter.errors import UsageError
from converter.images.image_folder import ImageFolder
from converter.preparation import Folders
from converter.request import Request, stated_settings

if TYPE_CHECKING:
    from pathlib import Path

    from converter.conversion import Conversion
    from converter.progress import Track
    from converter.training.partition import Ints
    from converter.training.training import Training, TrainingRequest

_MAX_DROP = 0.02
_FEW = 50  # photos, of which one is more than 2 %


def check_file(to: Path, training: TrainingRequest) -> None:
    """Raises UsageError, before any work, if the file cannot be written."""
    place, model = to.resolve(), training.output.resolve()
    if model in (place, *place.parents):
        raise UsageError(f"--to {to} is the SavedModel or inside it ({training.output}). Give another place.")
    Request(source=training.output, output=to, schemes=("none",), mean=(0.0,), std=(1.0,), force=training.force).check()


def convert_trained(training: Training, request: TrainingRequest, to: Path, *, track: Track) -> Conversion:
    """To int8. It may lose 2 % of accuracy, or one photo, on the photos held out. Raises ConverterError."""
    held_out = training.partition.judged
    stated = stated_settings(request.output)
    folders = Folders(
        calibration=_folder(training, training.partition.train), evaluation=_folder(training, held_out), golden=None
    )
    options = Request(
        source=request.output,
        output=to,
        schemes=("int8",),
        mean=stated.mean or (0.0,),
        std=stated.std or (1.0,),
        stated=stated,
        calibration=request.photos,
        evaluation=request.photos,
        max_drop=max(_MAX_DROP, 1.5 / len(held_out)) if len(held_out) < _FEW else _MAX_DROP,
        force=request.force,
    )
    return convert(options, track=track, folders=folders)


def _folder(training: Training, photos: Ints) -> ImageFolder:
    dataset = training.dataset
    return ImageFolder(dataset.root, tuple(dataset.photos[int(at)].found for at in photos))
