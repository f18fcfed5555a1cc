"""Validates the manifests strictly against the published Kubernetes schemas: an unknown field is an error."""

from __future__ import annotations

import copy
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from kubernetes.manifests import COMPLETE, KUBERNETES, Document, documents, kustomization, one
from packaging.version import Version

_NEWEST_TWO = sorted(kubernetes_validate.utils.all_versions(), key=Version)[-2:]
_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")


def validate(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", _NEWEST_TWO)
@pytest.mark.parametrize("folder", COMPLETE)
def test_every_manifest_is_valid(folder: str, version: str) -> None:
    for document in documents(folder):
        validate(document, version)


def test_validation_fails_on_a_misspelled_field() -> None:
    misspelled = copy.deepcopy(one("uploads", "Deployment"))
    misspelled["spec"]["template"]["spec"]["terminationGracePeriod"] = 20
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(misspelled, _NEWEST_TWO[-1])


@pytest.mark.parametrize("folder", [*COMPLETE, "cameras-privileged"])
def test_a_kustomization_lists_every_file_in_its_folder(folder: str) -> None:
    document = kustomization(folder)
    named = {*document["resources"], *(patch["path"] for patch in document.get("patches", ()))}
    named |= {file for generator in document.get("configMapGenerator", ()) for file in generator["files"]}
    present = {path.name for path in (KUBERNETES / folder).iterdir()} - {"kustomization.yaml"}
    assert named - {"../cameras"} == present


@_kubectl
@pytest.mark.parametrize("folder", [*COMPLETE, "cameras-privileged"])
def test_the_output_of_kubectl_kustomize_is_valid(folder: str) -> None:
    rendered = kustomized(folder)
    assert {"Namespace", "ConfigMap", "PersistentVolumeClaim"} < {document["kind"] for document in rendered}
    for document in rendered:
        validate(document, _NEWEST_TWO[-1])


@_kubectl
def test_the_privileged_overlay_mounts_the_device_and_needs_no_plugin() -> None:
    rendered = {document["kind"]: document for document in kustomized("cameras-privileged")}
    assert rendered["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    spec = rendered["DaemonSet"]["spec"]["template"]["spec"]
    assert list(spec["containers"][0]["resources"]["limits"]) == ["memory"]
    assert spec["volumes"][0] == {"name": "camera", "hostPath": {"path": "/dev/video0", "type": "CharDevice"}}


def kustomized(folder: str) -> list[Document]:
    command = ["kubectl", "kustomize", str(KUBERNETES / folder)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(answer.stdout))
