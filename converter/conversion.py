"""Conversion: from a trained model to finished .tflite files, checked and evaluated."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.model_file.metadata import read_model_file
from agent.runtimes.probe import probe
from agent.runtimes.saved_model import TensorFlowClassifier, image_function
from agent.runtimes.tensorflow import import_tensorflow
from converter.errors import ConversionError, ConverterError, DropError
from converter.evaluation.agreement import agreement_of, best_indices
from converter.evaluation.comparison import evaluation_notes, finished_subject, source_subject
from converter.evaluation.evaluation import evaluate, percent
from converter.finished_model import FinishedModel
from converter.images.trained_on import trained_on
from converter.output import write_whole
from converter.packing.golden import check_packed
from converter.packing.metadata import pack_metadata
from converter.packing.signature import with_signature
from converter.preparation import Folders, prepare
from converter.quantization import INT8_SCHEMES
from converter.request import Request, given_labels, label_counts, trained_settings
from converter.source.inference_graph import for_inference
from converter.source.one_score import with_score_per_label
from converter.source.source import open_source
from converter.target.target import check_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.settings import ModelSettings
    from agent.runtimes.saved_model import ImageFunction
    from converter.evaluation.evaluation import Evaluation
    from converter.preparation import Preparation
    from converter.progress import Track
    from converter.quantization import Layer, Scheme

_REMEDY = (
    "Use more calibration images that look like those of the camera. Or rank the layers with --explain and keep the "
    "worst ones in float with --keep-float. Or use --quantize float16."
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """`layers` is filled for --explain, worst first.

    `golden` is the number of samples in each file; `notes` are sentences for the user.
    """

    function: ImageFunction
    settings: ModelSettings
    models: tuple[FinishedModel, ...]
    layers: tuple[Layer, ...]
    calibration_images: int
    golden: int
    notes: tuple[str, ...]

    @property
    def accepted(self) -> tuple[FinishedModel, ...]:
        return tuple(model for model in self.models if model.refusal is None)

    def write(self) -> None:
        """Writes the models that were not refused. Raises ConverterError if a file cannot be written."""
        for model in self.accepted:
            write_whole(model.path, model.content)

    def to_json(self) -> dict[str, Any]:
        source = self.function.trained
        return {
            "source": {
                "kind": source.kind,
                "sha256": source.sha256,
                "keras": source.keras,
                "signature": self.function.key,
            },
            "labels": list(self.settings.labels or ()),
            "models": [model.to_json() for model in self.models],
            "layers": [
                {"name": layer.name, "operator": layer.operator, "error": layer.error, "feeds": list(layer.feeds)}
                for layer in self.layers
            ],
            "calibration_images": self.calibration_images,
            "golden": self.golden,
            "notes": list(self.notes),
        }


def convert(request: Request, *, track: Track, folders: Folders | None = None) -> Conversion:
    """Convert without writing; Conversion.write() writes the files. Raises ConverterError and ModelError.

    `folders` replace those of the request, to use only some of their images.
    If the target refuses a model, it fails --max-drop or it agrees with its source by chance, its `refusal` is set.
    """
    request.check()
    folders = Folders.of(request) if folders is None else folders
    with track.step("Opening the model"):
        source = open_source(request.source, allow_code=request.allow_code)
    labels = given_labels(request)
    counts = label_counts(labels, folders.given)
    function = image_function(
        source, key=request.signature, size=request.input_size, output=request.output_name, counts=counts
    )
    function = for_inference(function)
    settings = trained_settings(request, function, labels, folders.given)
    function = with_score_per_label(function, settings)
    settings = replace(settings, score=probe(TensorFlowClassifier(function, settings)).score)
    folders.check_truth(settings.labels or ())
    prepared = prepare(request, function, settings, folders, track)
    drafts = [_draft(prepared, scheme) for scheme in track(request.schemes, "Converting")]
    models = [_judged(prepared, draft) for draft in _evaluated(prepared, drafts, folders, track)]
    layers = prepared.quantizer.layers if request.explain else ()
    images = len(prepared.calibration.images) if prepared.calibration else 0
    samples = len(prepared.golden.labels) if prepared.golden else 0
    return Conversion(function, settings, tuple(models), layers, images, samples, _notes(prepared, models))


def _draft(prepared: Preparation, scheme: Scheme) -> FinishedModel:
    """One scheme, checked. An error becomes its refusal, so that the other schemes continue."""
    request, path, content = prepared.request, prepared.request.paths[scheme], b""
    try:
        flatbuffer = _flatbuffer(prepared, scheme)
        content = _packed(prepared, scheme, flatbuffer)
        checked = check_target(content, "litert")  # in a child process first, since a faulty model can crash this one
        if request.target != "litert":
            checked = check_target(content, request.target, python=request.target_python)
        subject = finished_subject(content, path.name)  # raises ModelError if an agent would not serve it
        check_packed(content, subject.classifier)
        model_best = best_indices(subject.classifier, prepared.compared)
    except (ConversionError, ModelError) as refusal:
        return FinishedModel(path, scheme, content, "", None, refusal)
    floor = read_model_file(content).min_runtime_version
    agreement = agreement_of(prepared.source_best, model_best, labels=len(subject.classifier.labels))
    checked = f"{checked} Required TFLite version: {floor} or later."
    return FinishedModel(path, scheme, content, checked, agreement=agreement if agreement.images else None)


def _packed(prepared: Preparation, scheme: Scheme, model: bytes, evaluation: Evaluation | None = None) -> bytes:
    request, settings, golden = prepared.request, prepared.packed, prepared.golden
    chosen = {"resize": settings.resize, "resample": settings.resample, "score": settings.score}
    own = {key: value for key, value in chosen.items() if value is not None}
    fitted = evaluation.fitted.settings if evaluation and evaluation.fitted else {}
    additions = {"settings": own | fitted, "provenance": _provenance(prepared, scheme, evaluation)}
    if golden is not None:
        additions["golden"] = golden.to_json()
    try:
        return pack_metadata(
            model,
            labels=settings.labels or (),
            mean=settings.mean or (),
            std=settings.std or (),
            color="gray" if settings.color == "gray" else "rgb",
            temperature=_expressible(settings, fitted.get("temperature")),
            additions=additions,
            files=golden.files if golden else None,
            **request.texts,
        )
    except ValueError as error:
        raise ConverterError(f"{error}.") from error


def _expressible(settings: ModelSettings, temperature: float | None) -> float | None:
    """The temperature, if TFLite Metadata can say it: it has a sigmoid per label, which equals a softmax of two."""
    return temperature if settings.score == "probability" and len(settings.labels or ()) == 2 else None


def _provenance(prepared: Preparation, scheme: Scheme, evaluation: Evaluation | None) -> dict[str, Any]:
    source, trained, request = prepared.function.trained, prepared.trained, prepared.request
    calibration = prepared.calibration if scheme in INT8_SCHEMES else None
    return {
        "source": {
            "name": source.path.name,
            "sha256": source.sha256,
            "kind": source.kind,
            "signature": prepared.function.key,
            "output": prepared.function.output.name,
        },
        "fed": {"mean": trained.mean, "std": trained.std, "color": trained.color},
        "scheme": scheme,
        "kept_float": list(request.keep_float) if calibration else [],
        "calibration_images": len(calibration.images) if calibration else 0,
        "converter": f"edge-agent {importlib.metadata.version('edge-agent')}",
        "tensorflow": import_tensorflow().__version__,
        "target": request.target,
        "evaluation": evaluation.summary() if evaluation else None,
    }


def _flatbuffer(prepared: Preparation, scheme: Scheme) -> bytes:
    """A raw uint8 pixel must equal its quantized normalized value, or every device would feed wrong values."""
    request, (mean, *_), (std, *_) = prepared.request, prepared.packed.mean or (0.0,), prepared.packed.std or (1.0,)
    for apart in (False, True):
        quantizer = prepared.quantizer.apart if apart else prepared.quantizer
        content = quantizer.quantize(scheme, pixels=request.pixels, keep_float=request.keep_float)
        tensor = read_model_file(content).inputs[0]
        if tensor.dtype != "uint8" or (abs(tensor.scale * std - 1) <= 0.01 and abs(tensor.zero_point - mean) <= 1):
            names = prepared.function.input.name, prepared.function.output.name
            return with_signature(content, input_name=names[0], output_name=names[1])
    raise ConversionError(
        f"TensorFlow gave the uint8 input scale {tensor.scale:.5f} and zero point {tensor.zero_point}, which do "
        f"not match (pixel - {mean:g}) / {std:g}. Convert with --input-type int8."
    )


def _evaluated(
    prepared: Preparation, drafts: Sequence[FinishedModel], folders: Folders, track: Track
) -> list[FinishedModel]:
    """The drafts with their evaluation, which is also packed into their content. Refused drafts stay unchanged."""
    loads = [draft for draft in drafts if draft.refusal is None]
    if folders.evaluation is None or not loads:
        return list(drafts)
    subjects = [finished_subject(draft.content, draft.path.name) for draft in loads]
    source = source_subject(prepared.function, prepared.trained)
    evaluations = evaluate(subjects, folders.evaluation, source=source, unknown=folders.unknown, track=track)
    seen = trained_on(prepared.request.source, evaluations[0].images)
    by_path = {
        draft.path: _with(prepared, draft, replace(evaluation, trained_on=seen))
        for draft, evaluation in zip(loads, evaluations, strict=True)
    }
    return [by_path.get(draft.path, draft) for draft in drafts]


def _with(prepared: Preparation, draft: FinishedModel, evaluation: Evaluation) -> FinishedModel:
    if evaluation.broken is not None:
        return replace(draft, refusal=ConversionError(f"{evaluation.broken} Try another scheme."))
    evaluation = evaluation.with_fitted_scores()
    content = _packed(prepared, draft.scheme, draft.content, evaluation)
    source, model = evaluation.answers
    agreement = agreement_of(source.best.tolist(), model.best.tolist(), labels=len(evaluation.labels))
    return replace(draft, content=content, evaluation=evaluation.with_size(len(content)), agreement=agreement)


def _judged(prepared: Preparation, model: FinishedModel) -> FinishedModel:
    request, evaluation, agreement = prepared.request, model.evaluation, model.agreement
    if evaluation is not None and request.max_drop is not None and evaluation.drop > request.max_drop:
        allowed = percent(request.max_drop)
        refusal = f"{evaluation.verdict} --max-drop allows {allowed}, so {model.path} was not written. {_REMEDY}"
        return replace(model, refusal=DropError(refusal))
    if agreement is not None and agreement.is_chance and not request.force:
        refusal = f"{agreement} So {model.path} was not written; --force writes it. {_REMEDY}"
        return replace(model, refusal=DropError(refusal))
    return model


def _notes(prepared: Preparation, models: Sequence[FinishedModel]) -> tuple[str, ...]:
    notes = list(prepared.calibration.notes) if prepared.calibration else []
    notes += prepared.golden.notes if prepared.golden else ()
    accepted = [model for model in models if model.refusal is None]
    notes += [f"{model.path}: {model.agreement}" for model in accepted if model.agreement and model.agreement.is_chance]
    evaluation = next((model.evaluation for model in models if model.evaluation), None)
    return tuple([*notes, *evaluation_notes(evaluation)] if evaluation else notes)
