"""Reads the manifests in deploy/kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
# Folders with complete manifests; cameras-privileged contains only patches.
COMPLETE = ("uploads", "cameras")

Document = dict[str, Any]


def kustomization(folder: str) -> Document:
    document: Document = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    return document


def documents(folder: str) -> list[Document]:
    """The resources listed in the folder's kustomization.yaml."""
    texts = [(KUBERNETES / folder / name).read_text() for name in kustomization(folder)["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def one(folder: str, kind: str) -> Document:
    (found,) = (document for document in documents(folder) if document["kind"] == kind)
    return found


def pod(folder: str) -> Document:
    """The pod spec of the folder's only workload."""
    (found,) = (document for document in documents(folder) if document["kind"] in ("Deployment", "DaemonSet"))
    spec: Document = found["spec"]["template"]["spec"]
    return spec


def container(folder: str) -> Document:
    found: Document
    (found,) = pod(folder)["containers"]
    return found
