"""Manifests: the documents of deploy/kubernetes, as they lie there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
# Overlays patch these; what they say alone is no whole document.
WHOLE = ("uploads", "cameras")

Document = dict[str, Any]


def kustomization(folder: str) -> Document:
    document: Document = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    return document


def documents(folder: str) -> list[Document]:
    """What its kustomization.yaml calls resources."""
    texts = [(KUBERNETES / folder / name).read_text() for name in kustomization(folder)["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def one(folder: str, kind: str) -> Document:
    (found,) = (document for document in documents(folder) if document["kind"] == kind)
    return found


def pod(folder: str) -> Document:
    """Of the one workload there."""
    (found,) = (document for document in documents(folder) if document["kind"] in ("Deployment", "DaemonSet"))
    spec: Document = found["spec"]["template"]["spec"]
    return spec


def container(folder: str) -> Document:
    found: Document
    (found,) = pod(folder)["containers"]
    return found
