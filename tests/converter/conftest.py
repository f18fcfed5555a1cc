"""A small model that classifies four colors, trained once per session, and its pictures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from edge_convert import FED, in_a_process, runner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from edge_convert import EdgeConvert

    Pixels = npt.NDArray[np.uint8]

COLORS = {"blue": (50, 60, 190), "gray": (120, 120, 120), "green": (50, 180, 60), "red": (190, 50, 50)}  # RGB
_SIDE = 32
_PER_CLASS = 20


@pytest.fixture(scope="session")
def small_model() -> Any:
    """Keras 3: 32 x 32 x 3 in 0..1 to a softmax over blue, gray, green, red; right on pictures of `color_images`."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([layers.Input((_SIDE, _SIDE, 3), name="image")])
    for number, filters in enumerate((8, 16, 16)):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv_{number}"))
        model.add(layers.BatchNormalization(momentum=0.8, name=f"norm_{number}"))
        model.add(layers.ReLU(name=f"relu_{number}"))
    model.add(layers.GlobalAveragePooling2D(name="pool"))
    model.add(layers.Dense(len(COLORS), activation="softmax", name="scores"))
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    random = np.random.default_rng(1)
    pictures = [_noise_around(color, (_SIDE, _SIDE), random) for color in COLORS.values() for _ in range(_PER_CLASS)]
    truth = np.repeat(np.arange(len(COLORS)), _PER_CLASS)
    images = np.stack(pictures).astype(np.float32) / 255
    model.fit(images, truth, epochs=30, batch_size=_PER_CLASS, verbose=0)
    assert (model.predict(images, verbose=0).argmax(axis=1) == truth).all()
    return model


@pytest.fixture(scope="session")
def small_saved_model(small_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_model` as model.export wrote it; read-only."""
    path = tmp_path_factory.mktemp("trained") / "colors"
    small_model.export(str(path), verbose=False)
    return path


@pytest.fixture(scope="session")
def color_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of 48 x 40 pixels in each of blue/, gray/, green/ and red/; read-only."""
    root = tmp_path_factory.mktemp("pictures") / "colors"
    random = np.random.default_rng(2)
    for name, color in COLORS.items():
        (root / name).mkdir(parents=True)
        for number in range(_PER_CLASS):
            picture = _noise_around(color, (40, 48), random)
            assert cv2.imwrite(str(root / name / f"{number:02}.png"), picture[:, :, ::-1])
    return root


@pytest.fixture(scope="session")
def finished(small_saved_model: Path, color_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, quantized as by a user: in a separate process, which prints only a table."""
    path = tmp_path_factory.mktemp("finished") / "colors.tflite"
    done = in_a_process("convert", small_saved_model, path, *FED, "--calibration", color_images)
    assert (done.returncode, done.stderr) == (0, "")
    assert "int8" in done.stdout
    assert "written" in done.stdout
    return path


@pytest.fixture
def edge_convert(capfd: pytest.CaptureFixture[str]) -> EdgeConvert:
    return runner(capfd.readouterr)


@pytest.fixture
def on_fsync(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    """Replaces fsync(2) with the given function of the file descriptor."""
    return lambda action: monkeypatch.setattr(os, "fsync", action)


def _noise_around(color: tuple[int, int, int], size: tuple[int, int], random: np.random.Generator) -> Pixels:
    noise = np.asarray(color) + random.normal(0, 25, (*size, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)
