"""Drops new, incomplete and bad models while uploads continue; no upload may fail because of them."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import model_file, sha256
from end_to_end.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.first

_OLD, _NEW = model_file(1), model_file(2)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """One agent for all tests; each test has its own model, named by `name`."""
    with RunningAgent(tmp_path_factory.mktemp("agent"), models={"retire_after_s": 2}) as running:
        yield running


@pytest.fixture
def name(agent: RunningAgent, request: pytest.FixtureRequest) -> str:
    """The name of a model whose old version serves."""
    name = re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))
    agent.drop(_OLD, name)
    wait_until(lambda: agent.model(name).get("serving"), what="the old version serves")
    return name


def _by_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", source, target], check=True)


def _by_cp_keeping_the_time(source: Path, target: Path) -> None:
    os.utime(source, (1_000_000_000, 1_000_000_000))
    subprocess.run(["cp", "-p", source, target], check=True)


def _by_mv(source: Path, target: Path) -> None:
    subprocess.run(["mv", source, target], check=True)


def _by_overwriting(source: Path, target: Path) -> None:
    content = source.read_bytes()
    with target.open("r+b", buffering=0) as file:
        for at in range(0, len(content), 4096):
            file.write(content[at : at + 4096])


def _by_an_editor(source: Path, target: Path) -> None:
    """Writes a temporary file, flushes it to the disk and renames it."""
    temporary = target.with_name(".digits.tflite.swp")
    with temporary.open("wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(target)


def _by_a_link(source: Path, target: Path) -> None:
    target.unlink()
    os.link(source, target)


def _by_rsync(source: Path, target: Path, *options: str) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed: apt install rsync")
    subprocess.run(["rsync", "-t", "--checksum", "--no-whole-file", *options, source, target], check=True)


def _by_rsync_in_place(source: Path, target: Path) -> None:
    _by_rsync(source, target, "--inplace")


@pytest.mark.parametrize(
    "drop",
    [
        _by_cp,
        _by_mv,
        _by_rsync,
        *(
            pytest.param(drop, marks=pytest.mark.long)
            for drop in (_by_cp_keeping_the_time, _by_overwriting, _by_an_editor, _by_a_link, _by_rsync_in_place)
        ),
    ],
)
def test_every_dropped_version_serves_and_no_upload_fails(
    agent: RunningAgent, name: str, tmp_path: Path, drop: Callable[[Path, Path], None]
) -> None:
    versions = [model_file(number) for number in (1, 2, 3)]
    with Uploads(agent, model=name, clients=2) as uploads:
        uploads.wait_for(sha256(_OLD))
        for number, content in enumerate(versions[1:], start=2):
            source = tmp_path / f"v{number}.tflite"
            source.write_bytes(content)
            drop(source, agent.models / f"{name}.tflite")
            uploads.wait_for(sha256(content))
        uploads.wait_for_more(10)
    assert uploads.failures == []
    assert uploads.served == {sha256(content): {str(number)} for number, content in enumerate(versions, start=1)}


def test_the_last_version_serves_if_versions_are_dropped_faster_than_they_load(agent: RunningAgent, name: str) -> None:
    versions = [model_file(number) for number in range(2, 12)]
    with Uploads(agent, model=name) as uploads:
        for content in versions:
            agent.drop(content, name)
            uploads.wait_for_more(5)
        uploads.wait_for(sha256(versions[-1]))
        uploads.wait_for_more(10)
    assert uploads.failures == []
    assert uploads.served.keys() <= {sha256(content) for content in (_OLD, *versions)}
    assert list(uploads.served)[-1] == sha256(versions[-1])
    assert all(len(numbers) == 1 for numbers in uploads.served.values())


def test_a_model_that_arrives_in_halves_serves_only_once_it_is_complete(agent: RunningAgent, name: str) -> None:
    half = len(_NEW) // 2
    with Uploads(agent, model=name) as uploads:
        with (agent.models / f"{name}.tflite").open("wb", buffering=0) as file:
            file.write(_NEW[:half])
            wait_until(lambda: agent.rejection(name), what="the incomplete model is refused")
            uploads.wait_for_more(10)
            file.write(_NEW[half:])
        uploads.wait_for(sha256(_NEW))
    assert uploads.failures == []
    assert uploads.served == {sha256(_OLD): {"1"}, sha256(_NEW): {"2"}}
    assert agent.rejection(name) == ""


def test_a_file_with_the_name_of_an_unfinished_transfer_is_ignored(agent: RunningAgent, name: str) -> None:
    for unfinished in (".part", ".filepart", ".tmp", "~"):
        (agent.models / f"{name}.tflite{unfinished}").write_bytes(_NEW)
        (agent.models / f"new_{name}.tflite{unfinished}").write_bytes(_NEW)
    (agent.models / f".{name}.tflite").write_bytes(_NEW)
    agent.drop(_NEW, "finished")
    wait_until(lambda: agent.model("finished").get("serving"), what="the finished one serves")
    assert agent.model(name)["serving"]["sha256"] == sha256(_OLD)
    assert [model["name"] for model in agent.json("/v1/models")["models"] if name in model["name"]] == [name]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"", id="empty"),
        pytest.param(random.Random(0).randbytes(60_000), id="noise"),
        pytest.param(_NEW[:-1], id="one byte short"),
        pytest.param(b"not a model", id="text", marks=pytest.mark.long),
        pytest.param(_NEW[:30_000], id="half", marks=pytest.mark.long),
        pytest.param(_NEW[: len(_NEW) * 97 // 100], id="97 percent", marks=pytest.mark.long),
    ],
)
def test_the_old_model_serves_when_a_bad_one_is_dropped(agent: RunningAgent, name: str, bad: bytes) -> None:
    with Uploads(agent, model=name) as uploads:
        agent.drop(bad, name)
        wait_until(lambda: agent.rejection(name), what="the bad model is refused")
        uploads.wait_for_more(10)
    assert uploads.failures == []
    assert uploads.served == {sha256(_OLD): {"1"}}
    assert agent.rejection(name).endswith(".")


@pytest.mark.assets
@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("refuse_detector_ssd/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29_metadata.tflite", "detector"),
        ("refuse_custom_op_edgetpu/mobilenet_v1_0.25_128_quant_edgetpu.tflite", "Edge TPU"),
        ("refuse_flex_op/whitespace_tokenizer_flex_delegate.tflite", ""),
        ("refuse_non_image_lstm/keras_lstm_mnist_ptq.tflite", ""),
    ],
)
def test_a_model_that_this_machine_cannot_serve_is_refused_with_a_reason(
    agent: RunningAgent, name: str, assets: Path, file: str, reason: str
) -> None:
    with Uploads(agent, model=name) as uploads:
        _by_cp(assets / "refuse" / file, agent.models / f"{name}.tflite")
        wait_until(lambda: agent.rejection(name), what="the model is refused")
        uploads.wait_for_more(10)
    assert uploads.failures == []
    assert uploads.served == {sha256(_OLD): {"1"}}
    assert reason in agent.rejection(name)
    assert agent.rejection(name).endswith(".")


def test_a_good_model_replaces_a_bad_one(agent: RunningAgent, name: str) -> None:
    with Uploads(agent, model=name) as uploads:
        agent.drop(b"not a model", name)
        wait_until(lambda: agent.rejection(name), what="the bad model is refused")
        agent.drop(_NEW, name)
        uploads.wait_for(sha256(_NEW))
    assert uploads.failures == []
    assert agent.rejection(name) == ""


def test_a_removed_model_serves_for_a_while_and_may_be_dropped_again(agent: RunningAgent, name: str) -> None:
    with Uploads(agent, model=name) as uploads:
        uploads.wait_for(sha256(_OLD))
        (agent.models / f"{name}.tflite").unlink()
        uploads.wait_for_more(20)
        assert uploads.failures == []
        uploads.wait_for_code(404)
        agent.drop(_OLD, name)
        uploads.wait_for_code(200)
    unknown, loading = f'404 {{"error":"Model {name} is not served.', f'503 {{"error":"Model {name} is being loaded.'
    assert all(failure.startswith((unknown, loading)) for failure in uploads.failures)
    assert uploads.served == {sha256(_OLD): {"1", "2"}}


def test_a_model_removed_and_dropped_again_leaves_no_gap(agent: RunningAgent, name: str) -> None:
    with Uploads(agent, model=name) as uploads:
        (agent.models / f"{name}.tflite").unlink()
        uploads.wait_for_more(20)
        agent.drop(_NEW, name)
        uploads.wait_for(sha256(_NEW))
        uploads.wait_for_more(10)
    assert uploads.failures == []
    assert uploads.served == {sha256(_OLD): {"1"}, sha256(_NEW): {"2"}}


def test_the_highest_number_serves_in_tensorflow_serving_layout(agent: RunningAgent) -> None:
    for number, content in ((2, _OLD), (10, _NEW)):
        folder = agent.models / "numbered" / str(number)
        folder.mkdir(parents=True)
        (folder / "model.tflite").write_bytes(content)
    wait_until(lambda: agent.model("numbered").get("serving"), what="the numbered model serves")
    wait_until(lambda: agent.model("numbered")["serving"]["version"] == "10", what="version 10 serves")
    shutil.rmtree(agent.models / "numbered" / "10")
    wait_until(lambda: agent.model("numbered")["serving"]["version"] == "2", what="version 2 serves again")
    assert agent.model("numbered")["serving"]["sha256"] == sha256(_OLD)


def test_a_models_folder_that_disappears_is_reported_and_uploads_continue(tmp_path: Path) -> None:
    with RunningAgent(tmp_path) as agent:
        agent.drop(_OLD)
        wait_until(lambda: agent.get("/readyz").is_success, what="the model serves")
        with Uploads(agent, model="digits") as uploads:
            shutil.rmtree(agent.models)
            wait_until(lambda: agent.json("/readyz")["warnings"], what="the lost folder is reported")
            (warning,) = agent.json("/readyz")["warnings"]
            assert warning.startswith(f"The models folder {agent.models} cannot be listed")
            assert agent.get("/readyz").is_success
            uploads.wait_for_more(10)
            agent.models.mkdir()
            agent.drop(_OLD)
            wait_until(lambda: not agent.json("/readyz")["warnings"], what="the folder is found again")
            agent.drop(_NEW)
            uploads.wait_for(sha256(_NEW))
        assert uploads.failures == []
        assert uploads.served == {sha256(_OLD): {"1"}, sha256(_NEW): {"2"}}


def test_models_serve_after_a_restart_without_their_folder_until_it_is_back(tmp_path: Path) -> None:
    with RunningAgent(tmp_path) as agent:
        agent.drop(_OLD)
        wait_until(lambda: agent.get("/readyz").is_success, what="the model serves")
        agent.end()
        aside = agent.models.rename(tmp_path / "aside")
        agent.restart()
        assert agent.model()["serving"]["sha256"] == sha256(_OLD)
        wait_until(lambda: agent.json("/readyz")["warnings"], what="the missing folder is reported")
        assert agent.get("/readyz").is_success
        assert f"The models folder {agent.models} cannot be listed: No such file or directory." in agent.log
        aside.rename(agent.models)
        agent.drop(_NEW)
        wait_until(lambda: agent.model()["serving"]["sha256"] == sha256(_NEW), what="the new model serves")
        assert agent.json("/readyz")["warnings"] == []
