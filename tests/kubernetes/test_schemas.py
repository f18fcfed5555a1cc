"""The manifests against the schemas that Kubernetes publishes, strictly: an unknown field is an error."""

from __future__ import annotations

import copy
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from kubernetes.manifests import KUBERNETES, WHOLE, Document, documents, kustomization, one
from packaging.version import Version

_NEWEST_TWO = sorted(kubernetes_validate.utils.all_versions(), key=Version)[-2:]
_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")


def validate(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", _NEWEST_TWO)
@pytest.mark.parametrize("folder", WHOLE)
def test_every_manifest_is_right(folder: str, version: str) -> None:
    for document in documents(folder):
        validate(document, version)


def test_a_slip_would_be_found() -> None:
    slip = copy.deepcopy(one("uploads", "Deployment"))
    slip["spec"]["template"]["spec"]["terminationGracePeriod"] = 20
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(slip, _NEWEST_TWO[-1])


@pytest.mark.parametrize("folder", [*WHOLE, "cameras-privileged"])
def test_a_kustomization_names_every_file_beside_it(folder: str) -> None:
    document = kustomization(folder)
    named = {*document["resources"], *(patch["path"] for patch in document.get("patches", ()))}
    named |= {file for generator in document.get("configMapGenerator", ()) for file in generator["files"]}
    there = {path.name for path in (KUBERNETES / folder).iterdir()} - {"kustomization.yaml"}
    assert named - {"../cameras"} == there


@_kubectl
@pytest.mark.parametrize("folder", [*WHOLE, "cameras-privileged"])
def test_what_kubectl_makes_of_a_folder_is_right(folder: str) -> None:
    made = kustomized(folder)
    assert {"Namespace", "ConfigMap", "PersistentVolumeClaim"} < {document["kind"] for document in made}
    for document in made:
        validate(document, _NEWEST_TWO[-1])


@_kubectl
def test_the_privileged_one_takes_the_device_of_the_node_and_asks_no_plugin() -> None:
    made = {document["kind"]: document for document in kustomized("cameras-privileged")}
    assert made["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    spec = made["DaemonSet"]["spec"]["template"]["spec"]
    assert list(spec["containers"][0]["resources"]["limits"]) == ["memory"]
    assert spec["volumes"][0] == {"name": "camera", "hostPath": {"path": "/dev/video0", "type": "CharDevice"}}


def kustomized(folder: str) -> list[Document]:
    command = ["kubectl", "kustomize", str(KUBERNETES / folder)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(answer.stdout))
