"""How a SavedModel is computed: batches, and options of TensorFlow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent.config.section import Section


class BatchingSection(Section):
    enabled: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether a SavedModel classifies several images in one call. `auto`: the agent measures batches of "
        "1, 2, 4 and so on when it loads the model, and uses the fastest size per image if that is at least 5 % faster "
        "than one image at a time. `true`: up to max_batch_size in any case. `.tflite` models have no batches.",
    )
    max_batch_size: int = Field(
        default=8, ge=1, le=256, description="The most images in one call. Batches have powers of two."
    )
    batch_timeout_micros: int = Field(
        default=2000,
        ge=0,
        le=1_000_000,
        description="Microseconds that an image waits at most for others that are being decoded. It does not wait if "
        "there are none.",
    )
    num_batch_threads: int = Field(default=1, ge=1, le=64, description="How many batches are computed at a time.")


class TensorFlowSection(Section):
    memory_limit_mb: int | None = Field(
        default=None,
        ge=64,
        description="The most memory of each GPU that TensorFlow may use, in MB, reserved at the start. Without it, "
        "TensorFlow takes what the models need. No effect without a GPU.",
    )
    xla: bool = Field(
        default=False,
        description="Compile SavedModels with XLA. Loading takes longer, since each batch size is compiled. Measure "
        "whether your model gets faster; on a processor, many get slower.",
    )
    float16: bool = Field(
        default=False,
        description="Compute SavedModels in float16 where TensorFlow considers it safe (its automatic mixed "
        "precision). No effect without a GPU.",
    )
