"""Signatures: the names of the signatures that a model has in TensorFlow Serving's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.runtimes.serving_signature import ServingSignature

DEFAULT_SIGNATURE, RAW_SIGNATURE = "serving_default", "raw"


def signature_names(signature: ServingSignature) -> tuple[str, ...]:
    """The raw one gives logits, which not every model has."""
    return (DEFAULT_SIGNATURE, RAW_SIGNATURE) if signature.has_logits else (DEFAULT_SIGNATURE,)
