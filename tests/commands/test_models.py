from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import FakeModels, birds, identity, rest_app, version
from agents.shell import Shell
from peers.mosquitto import free_port
from peers.web_server import serving

from agent.errors import VersionError
from agent.status import ModelStatus, Rejection, RuntimeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def models() -> FakeModels:
    return FakeModels(
        birds(probation=True, canary=identity(3), candidate="birds.tflite"),
        ModelStatus("fish", rejection=Rejection("fish.tflite", "The file is empty.", 0)),
    )


@pytest.fixture
def url(models: FakeModels) -> Iterator[str]:
    with serving(rest_app(models)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


def rows(shell: Shell) -> list[str]:
    return [" ".join(line.split()) for line in shell.out.splitlines()]


def test_list_shows_serving_versions_and_rejections(shell: Shell, models: FakeModels, url: str) -> None:
    assert shell.run("models", "list", "--url", url) == 0
    assert rows(shell) == [
        "model version since remarks candidate last rejection",
        "birds 2 2027-01-15T08:00:00.000Z on probation, canary 3 birds.tflite",
        "fish fish.tflite: The file is empty.",
    ]
    assert shell.json("models", "list", "--url", url) == [each.to_json() for each in models.statuses]


def test_show_lists_the_versions(shell: Shell, models: FakeModels, url: str) -> None:
    models.statuses = [birds(versions=(version(3, "rejected", "It answered with NaN."), version(2, "serving")))]
    assert shell.run("models", "show", "birds", "--url", url) == 0
    assert rows(shell) == [
        "version state file sha256 admitted at",
        "3 rejected birds-3.tflite 030303030303 2027-01-15T08:00:00",
        "2 serving birds-2.tflite 020202020202 2027-01-15T08:00:00",
        "Version 3: It answered with NaN.",
    ]
    assert shell.json("models", "show", "birds", "--url", url) == models.statuses[0].to_json()


def test_show_says_why_a_model_runs_on_its_accelerator(shell: Shell, models: FakeModels, url: str) -> None:
    models.statuses = [birds(runs_on=RuntimeStatus("LiteRT, gpu", "gpu", "It is 3.0 times as fast as the CPU."))]
    assert shell.run("models", "show", "birds", "--url", url) == 0
    assert rows(shell)[-1] == "Runs on LiteRT, gpu. It is 3.0 times as fast as the CPU."


def test_show_prints_the_rejection_of_a_model_without_versions(shell: Shell, models: FakeModels, url: str) -> None:
    assert shell.run("models", "show", "fish", "--url", url) == 0
    assert rows(shell)[-1] == "fish.tflite: The file is empty."


def test_pin_and_unpin_select_the_version(shell: Shell, models: FakeModels, url: str) -> None:
    models.statuses = [birds()]
    assert shell.run("models", "pin", "birds", 1, "--url", url) == 0
    assert shell.out == "Model birds serves version 1 (pinned to 1).\n"
    assert shell.run("models", "unpin", "birds", "--url", url) == 0
    assert shell.out == "Model birds serves version 1.\n"
    assert models.asked == [("pin", "birds", 1), ("unpin", "birds")]


def test_rollback_and_promote_reach_the_agent(shell: Shell, models: FakeModels, url: str) -> None:
    models.statuses = [birds()]
    assert shell.json("models", "rollback", "birds", "--url", url)["serving"] == identity(1).to_json()
    assert shell.run("models", "promote", "birds", "--url", url) == 0
    assert models.asked == [("rollback", "birds"), ("promote", "birds")]


def test_unpin_prints_no_version_if_the_model_serves_none(shell: Shell, models: FakeModels, url: str) -> None:
    assert shell.run("models", "unpin", "fish", "--url", url) == 0
    assert shell.out == "Model fish serves no version.\n"


def test_models_prints_an_error_of_the_agent_in_one_sentence(shell: Shell, models: FakeModels, url: str) -> None:
    models.refusal = VersionError("Model birds has no version 9.")
    assert shell.run("models", "pin", "birds", 9, "--url", url) == 1
    assert (shell.out, shell.err) == ("", "edge-agent: Model birds has no version 9.\n")
    assert shell.run("models", "show", "cats", "--url", url) == 1
    assert shell.err.startswith("edge-agent: Model cats does not exist.")


@pytest.mark.parametrize(
    "words",
    [
        ("pin", "birds"),
        ("pin", "birds", "newest"),
        ("pin", "birds", "--", "-1"),
        ("show", ""),
        ("show", "birds", "--url", "ftp://host"),
        ("show", "birds", "--config", "/no/such.yaml"),
    ],
)
def test_models_exits_with_2_on_wrong_usage(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run("models", *words) == 2
    assert shell.err


@pytest.mark.parametrize("listens", ["127.0.0.1", "0.0.0.0"])
def test_models_reads_the_address_from_the_configuration(shell: Shell, url: str, tmp_path: Path, listens: str) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"http: {{host: {listens}, port: {url.rpartition(':')[2]}}}\n")
    assert [each["name"] for each in shell.json("models", "list", "--config", config)] == ["birds", "fish"]


@pytest.mark.parametrize("listens", ["::1", "::"])
def test_models_connects_to_an_ipv6_address(shell: Shell, tmp_path: Path, listens: str) -> None:
    config, port = tmp_path / "agent.yaml", free_port()
    config.write_text(f"http: {{host: '{listens}', port: {port}}}\n")
    assert shell.run("models", "list", "--config", config) == 1
    assert shell.err.startswith(f"edge-agent: No agent answers at http://[::1]:{port} (")


def test_models_reads_the_address_from_the_environment_without_a_configuration(
    shell: Shell, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_HTTP__PORT", url.rpartition(":")[2])
    assert shell.run("models", "list") == 0


def test_url_overrides_the_configuration(shell: Shell, url: str, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"http: {{port: {free_port()}}}\n")
    assert shell.run("models", "list", "--config", config, "--url", url) == 0
    assert shell.run("models", "list", "--config", config) == 1
    assert shell.err.startswith("edge-agent: No agent answers at http://127.0.0.1:")


def test_models_requires_a_url_if_the_system_chooses_the_port(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("http: {port: 0}\n")
    assert shell.run("models", "list", "--config", config) == 2
    assert "with --url http://127.0.0.1:PORT" in shell.err


def test_models_prints_no_control_characters(shell: Shell, models: FakeModels, url: str) -> None:
    models.statuses = [ModelStatus("a\x1b[31m[red]", rejection=Rejection("x", "It says \x07.\nMore.", 0))]
    assert shell.run("models", "list", "--url", url) == 0
    assert "a?[31m[red]" in shell.out
    assert "It says ?." in shell.out
    assert "\x1b" not in shell.out
