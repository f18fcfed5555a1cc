"""Inspection: what a trained model is, its signatures, and whether it can run on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import ModelError, SignatureError
from agent.model_file.metadata import read_model_file
from agent.model_file.signature import misfit
from agent.runtimes.interpreter import operator_name
from agent.runtimes.saved_model import image_function
from converter.errors import ConversionError
from converter.quantization import convert_with_foreign_operators
from converter.source.inference_graph import for_inference
from converter.source.source import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.model_file.metadata import Tensor
    from agent.model_file.signature import Signature, Size
    from agent.runtimes.saved_model import TrainedModel
    from converter.progress import Track


def inspect_source(path: Path, *, size: Size | None = None, allow_code: bool = False, track: Track) -> dict[str, Any]:
    """A JSON document; TrainedModelError and ModelError if `path` cannot be read at all."""
    source = open_source(path, allow_code=allow_code)
    return {
        "path": str(path),
        "kind": source.kind,
        "keras": source.keras,
        "bytes": source.size_bytes,
        "sha256": source.sha256,
        "signatures": [_signature(source, signature, size) for signature in track(source.signatures, "Inspecting")],
    }


def _signature(source: TrainedModel, signature: Signature, size: Size | None) -> dict[str, Any]:
    why_not = misfit(signature, size)
    fits = why_not is None
    lacking: list[str] | None = None
    if fits:
        try:
            lacking = _lacking_operators(source, signature, size)
            why_not = "TensorFlow Lite does not support some of its operators" if lacking else None
        except (ConversionError, ModelError) as error:
            why_not, fits = str(error), isinstance(error, SignatureError)  # SignatureError: only its size is open
    return {
        "signature": signature.key,
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
        "parameters": source.parameters(signature.key),
        "image_classifier": fits,
        "reason": why_not,
        "lacks_in_tflite": lacking,
    }


def _tensors(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [{"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype} for tensor in tensors]


def _lacking_operators(source: TrainedModel, signature: Signature, size: Size | None) -> list[str]:
    """Operators of the model that TensorFlow Lite does not have, found by converting it."""
    function = for_inference(image_function(source, key=signature.key, size=size))
    file = read_model_file(convert_with_foreign_operators(function))
    return sorted({operator_name(operator).removeprefix("Flex") for operator in file.operators if operator.custom})
