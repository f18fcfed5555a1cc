"""Models: the keys of where models come from and how they serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from agent.config.section import Section, off_as_text
from agent.model_file.settings import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, checked_numbers


def _channels(key: str) -> AfterValidator:
    def check(value: float | list[float]) -> float | list[float]:
        checked_numbers(key, value if isinstance(value, list) else [value])
        return value

    return AfterValidator(check)


Mean = Annotated[float | list[float], _channels("mean")]


Std = Annotated[float | list[float], _channels("std")]


class ModelOverrides(Section):
    """Settings for one model, as in its `<model>.yaml`."""

    labels: list[str] | Path | None = Field(
        default=None,
        description="Labels in the order of the outputs, or a file with one label per line.",
        examples=["birds.txt"],
    )
    mean: Mean | None = Field(
        default=None,
        description="Mean of the normalization `(pixel - mean) / std`: one number, or three (one per channel).",
        examples=[127.5],
    )
    std: Std | None = Field(
        default=None, description="Standard deviation of the normalization, in the same form.", examples=[127.5]
    )
    color: Literal["rgb", "bgr", "gray"] | None = Field(
        default=None, description="Color order of the input: rgb, bgr or gray.", examples=["rgb"]
    )
    resize: Literal["stretch", "crop", "pad"] | None = Field(
        default=None,
        description="How to fit images with a different aspect ratio: stretch, crop or pad.",
        examples=["stretch"],
    )
    resample: Literal["antialias", "bilinear", "nearest", "bicubic", "area"] | None = Field(
        default=None,
        description="How training scaled images: antialias (Pillow, torchvision), or bilinear, bicubic or area of "
        "`tf.image.resize`, or nearest (the default of `load_img` in Keras). Default: antialias.",
        examples=["antialias"],
    )
    score: Literal["probability", "percent", "logits"] | None = Field(
        default=None,
        description="What the model returns: probability (0 to 1), percent or logits. Default: the agent finds out.",
        examples=["probability"],
    )
    output: str | None = Field(
        default=None,
        description="Name of the output with the scores, if the model has several outputs. Default: the one with as "
        "many values as there are labels.",
        examples=["probabilities"],
    )
    unknown_below: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Score below which an image is of none of the labels, for cameras and uploads with "
        "`score_threshold: auto`.",
        examples=[0.62],
    )
    temperature: float | None = Field(
        default=None,
        ge=LOWEST_TEMPERATURE,
        le=HIGHEST_TEMPERATURE,
        description="Divides the logits before they become scores: above 1, the scores are less confident. Their order "
        "stays. Default: 1.",
        examples=[1.8],
    )


class ModelsSection(Section):
    folder: Path = Field(
        default=Path("/var/lib/edge-agent/models"),
        description="Drop folder: the agent serves the `.tflite` files and SavedModel folders that you copy here.",
    )
    keep_versions: int = Field(
        default=3,
        ge=2,
        description="How many good versions of each model to keep for rollback. The newest proven version is always "
        "kept.",
    )
    retire_after_s: float = Field(
        default=10,
        ge=0,
        description="How long a model stays served after its file is removed, in seconds. `rm` followed by `cp` then "
        "leaves no gap.",
    )
    signatures: Annotated[Literal["off", "if_present", "required"], BeforeValidator(off_as_text)] = Field(
        default="off",
        description="Check of minisign signatures (`<file>.minisig`). `if_present`: a signature must be valid if there "
        "is one. `required`: unsigned files are rejected. Both need `trusted_keys`.",
    )
    trusted_keys: Path | None = Field(
        default=None,
        description="Folder with the public keys (`.pub` files) that may sign models. You can add and remove keys "
        "while the agent runs.",
    )
    max_mb: int = Field(
        default=256,
        ge=1,
        description="Maximum size of a model file in MB. A model is read into memory.",
    )
    swap: Literal["availability", "resource"] = Field(
        default="availability",
        description="How to replace a version. `availability`: load the new version next to the old one. `resource`: "
        "if memory is too short for both, unload the old one first; uploads get status 503 meanwhile.",
    )
    canary: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        default={},
        description="Per model, the share of uploads that go to a new version (the canary) until it is promoted or "
        "rolled back (`edge-agent models promote`, `rollback`). A new version of a model without an entry takes over "
        "at once.",
        examples=[{"birds": 0.1}],
    )
    settings: dict[str, ModelOverrides] = Field(
        default={},
        description="Per model, settings that override its metadata and its sidecars `<model>.txt` and "
        "`<model>.yaml`. A float model without metadata needs `mean` and `std`, which cannot be guessed.",
    )
