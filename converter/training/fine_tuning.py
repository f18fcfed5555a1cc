"""Fine-tuning: trains the upper layers of the backbone together with the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.runtimes.tensorflow import import_tensorflow
from converter.training.augmentation import augmented
from converter.training.head import class_weights
from converter.training.result import balanced_accuracy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from converter.training.checkpoint import Arrays, Checkpoint
    from converter.training.dataset import Dataset, Photo
    from converter.training.features import Pixels

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]

_BATCH = 16
_MOST_EPOCHS = 30
_PATIENCE = 5  # epochs without a better loss on the photos held out


@dataclass(frozen=True, slots=True)
class Candidate:
    """`depth`: the share of the layers, from the top, that is trained; `rate`: the learning rate."""

    depth: float
    rate: float

    @property
    def name(self) -> str:
        return f"tuned-{100 * self.depth:.0f}-{self.rate:g}"


@dataclass(frozen=True, slots=True)
class Photos:
    """Photos with their classes."""

    photos: Sequence[Photo]
    truth: Ints

    @classmethod
    def of(cls, dataset: Dataset, indices: Ints) -> Photos:
        return cls([dataset.photos[int(at)] for at in indices], dataset.truth[indices])

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, slots=True)
class Tuned:
    """`history` has one row per epoch: the loss in training, the loss and the balanced accuracy on the held-out."""

    candidate: Candidate
    history: Floats
    weights: tuple[Floats, ...]

    @property
    def best(self) -> int:
        return int(self.history[:, 1].argmin())

    @property
    def loss(self) -> float:
        return float(self.history[self.best, 1])


class FineTuning:
    """Trains candidates that all start from the same `model`; each epoch is one step of the checkpoint."""

    def __init__(self, model: Any, *, train: Photos, held_out: Photos, pixels: Pixels, mirror: bool, seed: int) -> None:
        self._model = model
        self._start = model.get_weights()
        self._train, self._held_out = train, held_out
        self._pixels = pixels
        self._mirror = mirror
        self._seed = seed
        self._labels = int(model.output.shape[-1])

    def run(self, candidate: Candidate, checkpoint: Checkpoint, goes_on: Callable[[], bool]) -> Tuned | None:
        """Until no epoch is better, or the time is over; None if the time is too short for one epoch."""
        state = checkpoint.load(candidate.name)
        self._prepare(candidate, state)
        history = [] if state is None else list(np.asarray(state["history"], np.float32))
        best = None if state is None else _numbered(state, "best")
        while not _is_done(history) and goes_on():
            row = self._epoch(len(history))
            if best is None or row[1] < min(each[1] for each in history):
                best = self._model.get_weights()
            history.append(row)
            checkpoint.save(candidate.name, self._state(history, best))
        if best is None:
            return None
        return Tuned(candidate, np.stack(history), tuple(best))

    def reset(self) -> None:
        """Gives the model its first weights again."""
        self._model.set_weights(self._start)

    def _prepare(self, candidate: Candidate, state: Arrays | None) -> None:
        """The network with its upper layers free; normalizations keep the statistics of ImageNet."""
        keras = import_tensorflow().keras
        layers = list(_flat(self._model))
        first = round((1 - candidate.depth) * len(layers))
        for number, layer in enumerate(layers):
            is_norm = isinstance(layer, keras.layers.BatchNormalization | keras.layers.LayerNormalization)
            layer.trainable = number >= first and not is_norm
        self._model.set_weights(self._start)
        with self._model.distribute_strategy.scope():
            self._model.compile(keras.optimizers.Adam(candidate.rate), "sparse_categorical_crossentropy")
            self._model.optimizer.build(self._model.trainable_variables)
        if state is not None:
            self._model.set_weights(_numbered(state, "last"))
            for variable, value in zip(self._model.optimizer.variables, _numbered(state, "optimizer"), strict=True):
                variable.assign(value)

    def _epoch(self, number: int) -> Floats:
        random = np.random.default_rng([self._seed, number])
        order = random.permutation(len(self._train))
        weights = class_weights(self._train.truth, labels=self._labels) * len(self._train)
        loss = 0.0
        for chosen in np.array_split(order, -(-len(order) // _BATCH)):  # of nearly equal sizes: each GPU gets a part
            pixels = self._pixels.of([self._train.photos[int(at)] for at in chosen])
            images = augmented(pixels, random, mirror=self._mirror).astype(np.float32)
            fitted = self._model.fit(  # train_on_batch() does not divide the batch among GPUs
                images,
                self._train.truth[chosen],
                sample_weight=weights[chosen],
                batch_size=len(chosen),
                shuffle=False,
                verbose=0,
            )
            loss += float(fitted.history["loss"][0]) * len(chosen)
        return np.array([loss / len(order), *self._judged()], np.float32)

    def _judged(self) -> tuple[float, float]:
        """Class-weighted log loss and balanced accuracy on the photos held out."""
        truth, scores = self._held_out.truth, outputs_of(self._model, self._held_out, self._pixels)
        return log_loss(scores, truth), balanced_accuracy(scores, truth)

    def _state(self, history: Sequence[Floats], best: Sequence[Floats] | None) -> Arrays:
        state: dict[str, Any] = {"history": np.stack(history)}
        state |= {f"best-{number:04}": value for number, value in enumerate(best or ())}
        state |= {f"last-{number:04}": value for number, value in enumerate(self._model.get_weights())}
        variables = self._model.optimizer.variables
        return state | {f"optimizer-{number:04}": value.numpy() for number, value in enumerate(variables)}


def outputs_of(model: Any, photos: Photos, pixels: Pixels) -> Floats:
    batches = []
    for start in range(0, len(photos), _BATCH):
        images = pixels.of(photos.photos[start : start + _BATCH]).astype(np.float32)
        batches.append(np.asarray(model(images, training=False)))
    return np.concatenate(batches)


def log_loss(scores: Floats, truth: Ints) -> float:
    """The mean over the classes."""
    weights = class_weights(truth, labels=scores.shape[1])
    return float((weights * -np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-7))).sum())


def _is_done(history: Sequence[Floats]) -> bool:
    losses = [float(row[1]) for row in history]
    return len(losses) >= _MOST_EPOCHS or (bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= _PATIENCE)


def _numbered(state: Arrays, prefix: str) -> list[Any]:
    return [state[key] for key in sorted(state) if key.startswith(f"{prefix}-")]


def _flat(model: Any) -> Any:
    """Its layers with weights, also those of models inside it, from the input to the output."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat(layer)
        elif layer.weights:
            yield layer
