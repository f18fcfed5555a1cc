"""Inferring: the REST application with two real models, for clients that send tensors."""

from __future__ import annotations

from agents.fake_agent import (
    NO_COLLECTION,
    OPEN,
    FakeHealth,
    FakeMetrics,
    FakeModels,
    FakeOverview,
    FakeProfiles,
    identity,
    served,
)
from agents.heard import Heard
from agents.models_on_disk import DIGITS
from agents.tiny_models import TinyModel

from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.models.loader import LoadedModel
from agent.models.serving import ServedModel
from agent.rest.app import Limits, create_app
from agent.runtimes.runtime import open_classifiers
from agent.status import ModelStatus

MAX_BYTES = 100_000
_COLORS = ModelSettings(labels=("red", "green", "blue"), mean=(0.0,), std=(255.0,))


def colors(number: int) -> ServedModel:
    """A float32 model that ends in logits: the mean of each channel, times 10."""
    model = TinyModel()
    file = read_model_file(
        model.finish(model.scaled(model.pooled(model.image(1, 4, 4, 3), (1, 2), (1, 3)), 10), names=("probs",))
    )
    classifiers = open_classifiers(file, _COLORS, workers=1, threads=1)
    return ServedModel(identity(number, "colors"), LoadedModel(file, _COLORS, classifiers))


class Inferring:
    """The REST application with a real engine; `digits` serves version 1, and `colors` version 2."""

    def __init__(self) -> None:
        self.heard, self.health, self.models = Heard(), FakeHealth(), FakeModels()
        self._served = {"colors": colors(2), "digits": served(DIGITS, 1)}
        self.reset()
        self.engine = InferenceEngine(workers=1, max_waiting=8, max_pixels=1 << 20)
        plane = DataPlane(engine=self.engine, models=self.models, results=Results(device="test"), listener=self.heard)
        self.app = create_app(
            version="1.2.3",
            data_plane=plane,
            models=self.models,
            cameras=FakeOverview(),
            profiles=FakeProfiles(),
            collection=NO_COLLECTION,
            overview=FakeOverview(),
            health=self.health,
            metrics=FakeMetrics(),
            limits=Limits(max_upload_bytes=MAX_BYTES, per_client=8),
            places=places_for_uploads(8, per_client=8),
            access=OPEN,
        )

    def reset(self) -> None:
        """Undo what an earlier test did. A new application would take much longer."""
        self.heard.results.clear()
        self.health.hangs = None
        self.models.canaries.clear()
        self.models.served = dict(self._served)
        self.models.statuses = [ModelStatus(name, serving=model.identity) for name, model in self._served.items()]
