"""Comparison: evaluates a finished file, alone or side by side with its source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.model_file.layout import layout_of
from agent.model_file.metadata import ADDITIONS, read_model_file
from agent.model_file.settings import ModelSettings, check_settings, final_settings
from agent.runtimes.probe import probe
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.saved_model import TensorFlowClassifier, image_function
from converter.errors import ConversionError, TrainedModelError
from converter.evaluation.answers import Subject
from converter.evaluation.evaluation import evaluate, percent
from converter.evaluation.resampling import METHODS, compare_resampling
from converter.evaluation.unknown import what_is_rejected
from converter.images.image_folder import left_out_notes, list_images
from converter.images.trained_on import trained_on
from converter.source.inference_graph import for_inference
from converter.source.one_score import with_score_per_label
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import Resample
    from agent.runtimes.saved_model import ImageFunction, TrainedModel
    from converter.evaluation.evaluation import Evaluation
    from converter.evaluation.resampling import ResamplingComparison
    from converter.evaluation.unknown import UnknownThreshold
    from converter.progress import Track


def finished_subject(content: bytes, name: str) -> Subject:
    """A .tflite file as the agent would serve it, on one thread. Raises ModelError if the agent would not."""
    file = read_model_file(content)
    return _subject(file, file.settings, name)


def source_subject(function: ImageFunction, settings: ModelSettings) -> Subject:
    """`settings` are those of training, except for `score` and `temperature`, which are those of the finished file."""
    trained, classifier = function.trained, TensorFlowClassifier(function, settings)
    if classifier.is_undecided:
        classifier.decide_score(probe(classifier))
    return Subject(trained.path.name, trained.size_bytes, classifier)


def compare(
    path: Path,
    images: Path,
    *,
    source: Path | None,
    signature: str | None,
    resample: Resample | None = None,
    allow_code: bool = False,
    unknown: Path | None = None,
    track: Track,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate a file on a folder of images, alone or against its source; also returns notes for the user.

    `resample` overrides what the file and its sidecars say. `unknown` is a folder with images of other things.
    """
    folder = list_images(images)
    file = _read(path)
    settings = final_settings(path, own=file.settings, given=ModelSettings(resample=resample))
    model = _subject(file, settings, path.name)
    settings = replace(settings, score=model.classifier.score)
    others = list_images(unknown) if unknown is not None else None
    made_of: Subject | None = None
    notes: tuple[str, ...] = ()
    if source is not None:
        made_of, notes = _source_of(file, settings, open_source(source, allow_code=allow_code), signature)
    (evaluation,) = evaluate([model], folder, source=made_of, unknown=others, track=track)
    if evaluation.broken is not None:
        raise ConversionError(evaluation.broken)
    if source is not None:
        evaluation = replace(evaluation, trained_on=trained_on(source, evaluation.images))
    evaluation = replace(evaluation, unknown=_unknown(evaluation, settings))
    return evaluation, (*notes, *evaluation_notes(evaluation))


def compare_methods(
    path: Path, images: Path, *, track: Track
) -> tuple[Evaluation, ResamplingComparison, tuple[str, ...]]:
    """Evaluate a file with each method of resampling; the Evaluation is that of the method it uses.

    Every image is decoded whole, since some methods need that.
    """
    folder = list_images(images)
    file = _read(path)
    settings = final_settings(path, own=file.settings, given=ModelSettings())
    used = settings.resample or "antialias"
    models = [_subject(file, replace(settings, resample=method), path.name) for method in METHODS]
    evaluations = dict(zip(METHODS, evaluate(models, folder, track=track), strict=True))
    for evaluation in evaluations.values():
        if evaluation.broken is not None:
            raise ConversionError(evaluation.broken)
    comparison = compare_resampling(evaluations, used=used)
    return evaluations[used], comparison, tuple(evaluation_notes(evaluations[used]))


def evaluation_notes(evaluation: Evaluation) -> Iterator[str]:
    """Sentences about skipped images, about those of the training, and about a source that is hardly right."""
    folder = evaluation.folder
    yield from left_out_notes("images", folder, evaluation.left_out, folder.images, evaluation.images)
    if evaluation.training_note is not None:
        yield evaluation.training_note
    if evaluation.source_guesses:
        yield (
            f"The source itself classifies only {percent(evaluation.source_top1)} correctly, hardly more than by "
            "guessing. Check --mean, --std, --color and the order of the labels."
        )


def _source_of(
    file: ModelFile, settings: ModelSettings, source: TrainedModel, signature: str | None
) -> tuple[Subject, tuple[str, ...]]:
    """The trained model with the settings that `file` states for its source; a note if it is another model."""
    origin = _stated(file, "source")
    noted = origin.get("signature")
    key = signature or (noted if isinstance(noted, str) and noted in source.calls else None)
    layout = layout_of(file.inputs[0])
    outputs = [output.name for each in source.signatures if each.key == key for output in each.outputs]
    output = origin["output"] if origin.get("output") in outputs else None
    counts = {len(settings.labels or ())}
    size = layout.height, layout.width
    function = for_inference(image_function(source, key=key, size=size, output=output, counts=counts))
    fed = settings.overridden_by(check_settings(_stated(file, "fed"), where=ADDITIONS))
    function = with_score_per_label(function, fed)
    same = origin.get("sha256") in (None, source.sha256)
    return source_subject(function, fed), () if same else (
        f"The file was made from a different model than {source.path}.",
    )


def _unknown(evaluation: Evaluation, settings: ModelSettings) -> UnknownThreshold | None:
    """What the threshold of the file rejects, if it has one or if images of other things were given."""
    if settings.unknown_below is None and evaluation.others is None:
        return None
    below = 0.5 if settings.unknown_below is None else settings.unknown_below  # as the agent's `auto`
    others = evaluation.others.scores if evaluation.others else None
    known = evaluation.fresh if evaluation.fresh.any() else slice(None)
    rejected = what_is_rejected(below, evaluation.model.scores[known], others)
    return replace(rejected, is_default=settings.unknown_below is None)


def _stated(file: ModelFile, key: str) -> dict[str, Any]:
    """One part of the provenance in `file`; empty if edge-convert did not make the file."""
    part = (file.provenance or {}).get(key)
    return part if isinstance(part, dict) else {}


def _read(path: Path) -> ModelFile:
    try:
        return read_model_file(path.read_bytes())
    except IsADirectoryError:
        raise TrainedModelError(f"{path} is a folder. Give a finished file: NAME.tflite.") from None
    except OSError as error:
        raise TrainedModelError(f"{path} cannot be read: {error.strerror}.") from None


def _subject(file: ModelFile, settings: ModelSettings, name: str) -> Subject:
    (classifier,) = open_classifiers(file, settings, workers=1, threads=1)
    if classifier.seen is None:  # a temperature must know what the agent will see with one
        classifier.decide_score(probe(classifier))
    classifier.warm_up()
    return Subject(name, len(file.content), classifier)
