"""Checks what no schema covers: that the manifests fit the agent, its image, each other, and Pod Security."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubernetes.manifests import COMPLETE, KUBERNETES, container, kustomization, one, pod
from system.dockerfile import instructions

_ROOT = KUBERNETES.parents[1]
_IMAGE_ENVIRONMENT = dict(
    re.findall(
        r"(EDGE_AGENT_\w+)=(\S+)", " ".join(rest for _, rest in instructions(_ROOT / "deploy/docker/Dockerfile"))
    )
)


@pytest.mark.parametrize("folder", COMPLETE)
def test_the_pod_meets_the_restricted_pod_security_standard(folder: str) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    labels = one(folder, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    of_pod, of_container = pod(folder)["securityContext"], container(folder)["securityContext"]
    assert of_pod["runAsNonRoot"]
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not of_container["allowPrivilegeEscalation"]
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    kinds = {kind for volume in pod(folder)["volumes"] for kind in volume} - {"name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "projected", "downwardAPI"}
    assert pod(folder).keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})


@pytest.mark.parametrize("folder", COMPLETE)
def test_the_pod_has_the_user_port_and_folders_of_the_image(folder: str) -> None:
    user = dict(instructions(_ROOT / "deploy/docker/Dockerfile"))["USER"]
    assert f"{pod(folder)['securityContext']['runAsUser']}:{pod(folder)['securityContext']['runAsGroup']}" == user
    assert [port["containerPort"] for port in container(folder)["ports"]] == [
        int(_IMAGE_ENVIRONMENT["EDGE_AGENT_HTTP__PORT"])
    ]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container(folder)["volumeMounts"]}
    assert mounts == {
        "/etc/edge-agent": True,
        _IMAGE_ENVIRONMENT["EDGE_AGENT_MODELS__FOLDER"]: True,
        _IMAGE_ENVIRONMENT["EDGE_AGENT_DEVICE__STATE_FOLDER"]: False,
        "/run/secrets/edge-agent": True,
    }


@pytest.mark.parametrize(("folder", "is_optional"), [("uploads", False), ("cameras", True)])
def test_the_agent_reads_its_access_tokens_from_a_secret(folder: str, *, is_optional: bool) -> None:
    (volume,) = [volume for volume in pod(folder)["volumes"] if "secret" in volume]
    secret = volume["secret"]
    assert (secret["secretName"], secret.get("optional", False)) == ("tokens", is_optional)
    assert secret["defaultMode"] == 0o440  # the group of fsGroup reads it, and no other user
    assert pod(folder)["securityContext"]["fsGroup"] == pod(folder)["securityContext"]["runAsGroup"]
    (mount,) = [mount for mount in container(folder)["volumeMounts"] if mount["name"] == volume["name"]]
    text = (KUBERNETES / folder / "agent.yaml").read_text()
    assert yaml.safe_load(text)["http"]["tokens_file"] == f"{mount['mountPath']}/tokens"
    made = f"kubectl -n {kustomization(folder)['namespace']} create secret generic tokens --from-file=tokens"
    assert made in text
    assert made in (_ROOT / "docs/how-to/kubernetes.md").read_text()


@pytest.mark.parametrize("folder", COMPLETE)
def test_the_image_tag_is_the_version_of_the_project(folder: str) -> None:
    version = re.findall(r'^version = "(.*)"', (_ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert [image["newTag"] for image in kustomization(folder)["images"]] == version
    assert kustomization(folder)["images"][0]["name"] == container(folder)["image"]


@pytest.mark.parametrize("folder", COMPLETE)
def test_the_agent_accepts_the_configuration(folder: str) -> None:
    (file,) = kustomization(folder)["configMapGenerator"][0]["files"]
    environment = {**os.environ, **_IMAGE_ENVIRONMENT, "EDGE_AGENT_DEVICE__ID": "node-1.example.com"}
    answer = subprocess.run(
        [Path(sys.executable).with_name("edge-agent"), "check-config", KUBERNETES / folder / file],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
    assert "models in /models." in answer.stdout


@pytest.mark.parametrize("folder", COMPLETE)
def test_the_probes_use_routes_of_the_agent(folder: str) -> None:
    routes = (_ROOT / "docs/reference/http.md").read_text()
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container(folder)[probe]["httpGet"] == {"path": path, "port": "http"}
        assert f"`GET {path}`" in routes


def test_a_pod_is_removed_from_the_service_before_it_stops() -> None:
    pre_stop_s = container("uploads")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pre_stop_s + 10 <= pod("uploads")["terminationGracePeriodSeconds"]


def test_the_service_and_the_autoscaler_refer_to_the_deployment() -> None:
    deployment = one("uploads", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert one("uploads", "Service")["spec"]["selector"] == labels
    assert one("uploads", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert one("uploads", "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert "cpu" in container("uploads")["resources"]["requests"]


def test_the_autoscaler_uses_a_metric_of_the_agent_that_the_adapter_provides() -> None:
    (metric,) = (
        each for each in one("uploads", "HorizontalPodAutoscaler")["spec"]["metrics"] if each["type"] == "Pods"
    )
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus/adapter.yaml").read_text())["rules"]["custom"]
    name = metric["pods"]["metric"]["name"]
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert f"`{name}`" in (_ROOT / "docs/reference/metrics.md").read_text()


@pytest.mark.prometheus
def test_promtool_accepts_the_scrape_configuration_and_the_query_of_the_adapter(tmp_path: Path) -> None:
    """Debian builds Prometheus without Kubernetes support, so the discovery of pods is removed first."""
    config = yaml.safe_load((KUBERNETES / "prometheus/prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    assert job["authorization"].pop("credentials_file") == "/etc/prometheus/secrets/edge-agent/token"
    job["authorization"]["credentials"] = "edge_x"
    assert job["job_name"] == "edge-agent"
    assert job.pop("kubernetes_sd_configs") == [
        {"role": "pod", "namespaces": {"names": [kustomization(folder)["namespace"] for folder in COMPLETE]}}
    ]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({**config, "rule_files": ["rules.yaml"]}))
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus/adapter.yaml").read_text())["rules"]["custom"]
    words = {"<<.GroupBy>>": "pod", "<<.Series>>": "edge_agent_ready", "<<.LabelMatchers>>": 'pod="a"'}
    query = re.sub("<<.*?>>", lambda word: words[word[0]], rule["metricsQuery"])
    groups = [{"name": "adapter", "rules": [{"record": "asked", "expr": query}]}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yaml"], check=True, capture_output=True)
