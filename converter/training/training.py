"""Training: from a folder of photos to a SavedModel and what is known about it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.model_file.version import is_version
from agent.runtimes.interpreter import runtime
from agent.runtimes.tensorflow import import_tensorflow
from converter.errors import UsageError
from converter.evaluation.evaluation import percent
from converter.output import check_report
from converter.training.assessment import assess
from converter.training.backbone import DEFAULT, open_backbone
from converter.training.checkpoint import Checkpoint
from converter.training.dataset import open_dataset
from converter.training.export import check_folder, saved_model_files, write_folder
from converter.training.familiarity import examples_of, familiarity_of
from converter.training.features import Pixels, features_of, scales_of, settings_of
from converter.training.fine_tuning import FineTuning, Photos, log_loss, outputs_of
from converter.training.golden import golden_samples
from converter.training.head import train_head
from converter.training.network import features_model, with_familiarity, with_head
from converter.training.partition import partition
from converter.training.result import Result
from converter.training.search import Budget, search
from converter.training.strategy import strategy_of_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from converter.progress import Track
    from converter.training.assessment import Assessment
    from converter.training.backbone import Backbone, BackboneName
    from converter.training.dataset import Dataset, Finding
    from converter.training.head import Head
    from converter.training.partition import Partition
    from converter.training.search import Search
    from converter.training.strategy import Strategy

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

_VERSION = 3  # of the steps in the checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """The options of one training."""

    photos: Path
    output: Path
    backbone: BackboneName = DEFAULT
    weights: Path | None = None
    held_out: float = 0.2
    folds: int = 5
    minutes: float = 0.0
    seed: int = 0
    report: Path | None = None
    force: bool = False

    def check(self) -> None:
        """Raises UsageError, before any work."""
        check_folder(self.output, force=self.force)
        photos, output = (Path(os.path.realpath(each)) for each in (self.photos, self.output))
        if photos in (output, *output.parents) or output in photos.parents:
            raise UsageError(f"{self.output} and {self.photos} must not be inside each other. Give another OUTPUT.")
        if self.report is not None:
            check_report(self.report)


@dataclass(frozen=True, slots=True)
class Training:
    """The finished training. `scores` are those of the exported model on the photos that `partition.judged` names."""

    name: str
    dataset: Dataset
    partition: Partition
    assessment: Assessment | None
    search: Search | None
    scores: Floats
    files: Mapping[str, bytes]
    provenance: Mapping[str, Any]
    spent_s: float
    resumed: bool

    @property
    def is_tuned(self) -> bool:
        return self.search is not None and self.search.best is not None

    @property
    def exported(self) -> Result:
        """Of the exported model."""
        return Result(self.partition.judged, self.dataset.truth[self.partition.judged], self.scores)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.dataset.findings + self.partition.findings

    @property
    def too_short(self) -> str | None:
        """A sentence, if the time was too short for any fine-tuning."""
        if self.search is None or self.search.tried:
            return None
        return "No time was left for fine-tuning: --minutes counts from the start of the training. Give more minutes."

    @property
    def result(self) -> Result:
        """What the figures are about: every photo of the cross-validation, or else the photos held out.

        The cross-validation is of heads, so it says nothing about a fine-tuned model.
        """
        truth = self.dataset.truth
        if self.assessment is not None and not self.is_tuned:
            return Result(np.arange(len(truth)), truth, self.assessment.scores)
        return self.exported

    @property
    def verdict(self) -> str:
        result, count = self.result, len(self.dataset.labels)
        text = (
            f"Of {len(result.truth)} photos that it had not seen, the model recognized {percent(result.accuracy)}; "
            f"averaged over the {count} classes, {percent(result.balanced_accuracy)}"
        )
        if self.assessment is None or self.is_tuned:
            return f"{text}."
        folds = self.assessment.balanced_accuracies(self.dataset.truth)
        return (
            f"{text} ({len(folds)} rounds, each with other photos left out: {percent(float(folds.min()))} to "
            f"{percent(float(folds.max()))})."
        )

    def to_json(self) -> dict[str, Any]:
        folds = self.assessment.balanced_accuracies(self.dataset.truth).tolist() if self.assessment else []
        result, own = self.result, self.exported
        return {
            "labels": list(self.dataset.labels),
            "photos": len(self.dataset.photos),
            "trained_on": len(self.partition.train),
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "macro_f1": result.figures.macro_f1,
            "confusion": result.confusion.tolist(),
            "folds": folds,
            "held_out": {
                "photos": len(own.truth),
                "accuracy": own.accuracy,
                "balanced_accuracy": own.balanced_accuracy,
            },
            "findings": [{"text": finding.text, "names": list(finding.names)} for finding in self.findings],
            "spent_s": round(self.spent_s, 1),
            "resumed": self.resumed,
        }


def train_and_write(request: TrainingRequest, *, track: Track) -> Training:
    """Trains, writes the SavedModel whole or not at all, and deletes the checkpoint. Raises ConverterError."""
    request.check()
    training, checkpoint = _train(request, track)
    write_folder(request.output, training.files)
    checkpoint.delete()
    return training


def _train(request: TrainingRequest, track: Track) -> tuple[Training, Checkpoint]:
    dataset = open_dataset(request.photos, track=track)
    divided = partition(dataset, held_out=request.held_out, seed=request.seed)
    with track.step("Opening the backbone"):
        import_tensorflow().keras.backend.clear_session()  # names of layers are counted, and end up in the file
        backbone = open_backbone(request.backbone, request.weights)
        strategy = strategy_of_host()
        computing = backbone if strategy.is_plain else _computing(request, strategy)
    checkpoint = Checkpoint(Checkpoint.folder_of(request.output), key=_key(request, dataset, backbone, strategy))
    features = features_of(computing, dataset.photos, checkpoint, strategy=strategy, track=track)
    scales = scales_of(backbone, features[divided.train])
    views, truth, groups = features / scales, dataset.truth, dataset.groups
    deep = sum(backbone.widths[1:])
    assessment = None
    if request.folds > 1 and not dataset.has_parts:
        assessment = assess(
            views, truth, groups, deep=deep, count=request.folds, seed=request.seed, checkpoint=checkpoint, track=track
        )
    with track.step("Training the head"):
        used = divided.train
        head = train_head(
            views[used], truth[used], groups[used], labels=len(dataset.labels), seed=request.seed, deep=deep
        )
    model = with_head(backbone, head, scales)
    searched = None
    if request.minutes > 0:
        with strategy.scope():
            tuned = model if strategy.is_plain else with_head(computing, head, scales)
        searched = _tuned(
            model,
            tuned=tuned,
            head=head,
            views=views,
            dataset=dataset,
            divided=divided,
            request=request,
            checkpoint=checkpoint,
            track=track,
        )
    with track.step("Writing the model"):
        known = np.concatenate([divided.train, divided.held_out])
        examples = known[examples_of(truth[known], seed=request.seed)]
        if searched is None or searched.best is None:
            familiarity = familiarity_of(views[examples, 0], views[examples, 0])
            model = with_familiarity(model, familiarity, scales)
            scores = familiarity.scores(head, views[divided.judged, 0])
        else:
            model, scores = _tuned_with_familiarity(model, dataset, divided, examples, scales)
        golden = golden_samples(dataset, divided, scores, backbone.side)
        provenance = _provenance(request, dataset, divided, backbone)
        sha256s = [dataset.photos[int(at)].sha256 for at in divided.train]
        files = saved_model_files(model, settings_of(dataset.labels), provenance, golden, sha256s)
    training = Training(
        _name(request.output),
        dataset,
        divided,
        assessment,
        searched,
        scores,
        files,
        provenance,
        checkpoint.spent_s,
        checkpoint.resumed,
    )
    return training, checkpoint


def _computing(request: TrainingRequest, strategy: Strategy) -> Backbone:
    """Besides the one to export, which computes with float32 on any device."""
    with strategy.scope():
        return open_backbone(request.backbone, request.weights)


def _tuned(
    model: Any,
    *,
    tuned: Any,
    head: Head,
    views: Floats,
    dataset: Dataset,
    divided: Partition,
    request: TrainingRequest,
    checkpoint: Checkpoint,
    track: Track,
) -> Search:
    """Gives `model` the best weights that are found in the time left.

    `tuned` computes them: the same network, on all GPUs.
    """
    train, held_out = (Photos.of(dataset, side) for side in (divided.train, divided.held_out))
    pixels = Pixels(int(model.input.shape[1]))
    tuning = FineTuning(
        tuned, train=train, held_out=held_out, pixels=pixels, mirror=head.recipe.mirrored, seed=request.seed
    )
    loss = log_loss(head.scores(views[divided.held_out, 0]), held_out.truth)
    budget = Budget(checkpoint, minutes=request.minutes)
    searched = search(tuning, loss=loss, checkpoint=checkpoint, budget=budget, track=track)
    if searched.best is None:
        tuning.reset()
    else:
        model.set_weights(searched.best.weights)
    return searched


def _tuned_with_familiarity(
    model: Any, dataset: Dataset, divided: Partition, examples: Ints, scales: Floats
) -> tuple[Any, Floats]:
    """Fine-tuning has changed the features, and made those of its own photos more alike than others are.

    Also returns the scores of the judged photos.
    """
    pixels, features = Pixels(int(model.input.shape[1])), features_model(model)
    seen = np.union1d(examples, divided.held_out)
    rows = outputs_of(features, Photos.of(dataset, seen), pixels) / scales
    familiarity = familiarity_of(*(rows[np.isin(seen, side)] for side in (examples, divided.held_out)))
    model = with_familiarity(model, familiarity, scales)
    return model, outputs_of(model, Photos.of(dataset, divided.judged), pixels)


def _name(output: Path) -> str:
    """`birds 7` for birds/7, version 7 of birds in the layout of TensorFlow Serving."""
    output = output.absolute()
    return f"{output.parent.name} {output.name}" if is_version(output.name) else output.name


def _key(request: TrainingRequest, dataset: Dataset, backbone: Backbone, strategy: Strategy) -> str:
    how = (request.held_out, request.seed, strategy.devices, strategy.mixed)
    tf = import_tensorflow()
    own = importlib.metadata.version("edge-agent")
    versions = (own, tf.__version__, tf.keras.__version__, np.__version__, runtime())
    parts = (_VERSION, *versions, dataset.fingerprint, backbone.name, backbone.sha256, *how)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _provenance(request: TrainingRequest, dataset: Dataset, divided: Partition, backbone: Backbone) -> dict[str, Any]:
    return {
        "trained_by": f"edge-agent {importlib.metadata.version('edge-agent')}",
        "tensorflow": import_tensorflow().__version__,
        "backbone": backbone.name,
        "weights_sha256": backbone.sha256,
        "photos_sha256": dataset.fingerprint,
        "photos": len(dataset.photos),
        "trained_on": len(divided.train),
        "held_out": len(divided.held_out),
        "seed": request.seed,
    }
