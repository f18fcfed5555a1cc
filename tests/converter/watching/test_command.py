"""The command edge-convert watch as a process: its start, its end, and what systemd hears from it."""

from __future__ import annotations

import signal
import socket
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest
from agents.running_agent import wait_until
from watch_bed import BARE_GRAPH
from watch_process import WatchProcess

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert

pytestmark = pytest.mark.long

SENTENCE = "edge-convert: {}\n"


def test_service_reports_to_systemd_and_ends_at_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)

        def has(words: str) -> bool:
            try:
                heard.append(notified.recv(4096).decode())
            except BlockingIOError:
                return False
            return any(words in each for each in heard)

        with WatchProcess(tmp_path, models={"birds": {}}) as watch:
            for words in ("READY=1", "STATUS=Waiting for new versions.", "WATCHDOG=1"):
                wait_until(partial(has, words), timeout_s=300, what=words)
            assert watch.end() == 0
    assert watch.log.splitlines()[-1].endswith("Stopped.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_conversion_in_progress_ends_with_the_watch(tmp_path: Path, number: signal.Signals) -> None:
    with WatchProcess(tmp_path, models={"birds": {"mean": 0, "std": 1, "quantize": "none"}}) as watch:
        watch.source.joinpath("birds/1").mkdir(parents=True)
        watch.source.joinpath("birds/1/saved_model.pb").write_bytes(BARE_GRAPH)
        process = psutil.Process(watch.process.pid)
        wait_until(process.children, timeout_s=300, what="the conversion runs")
        (conversion,) = process.children()  # it imports TensorFlow for seconds
        assert watch.end(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    wait_until(lambda: not conversion.is_running(), what="the conversion has ended")
    assert watch.files(watch.output) == []
    assert watch.files(watch.reports) == [".lock"]


def test_second_watch_with_the_same_reports_is_refused(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    with WatchProcess(tmp_path, models={"birds": {}}) as watch:
        watch.wait_for("Watching")
        outcome = edge_convert("watch", watch.recipe)
        sentence = f"Another edge-convert watch uses {watch.reports}. Stop it, or give another folder."
        assert (outcome.code, outcome.err) == (1, SENTENCE.format(sentence))


def test_wrong_recipe_exits_with_2_and_one_sentence(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    watch = WatchProcess(tmp_path, models={"birds": {"steps": 3}})
    outcome = edge_convert("watch", watch.recipe)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"edge-convert: {watch.recipe}, line 3: unknown key models.birds.steps; known keys: ")


def test_missing_source_exits_with_1(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    watch = WatchProcess(tmp_path, models={"birds": {}})
    watch.source.rmdir()
    outcome = edge_convert("watch", watch.recipe)
    sentence = f"The folder {watch.source} does not exist (source). Create it, or mount its disk."
    assert (outcome.code, outcome.err) == (1, SENTENCE.format(sentence))


def test_key_without_its_password_exits_with_1(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    (tmp_path / "password").write_text("wren\n")
    edge_convert("keygen", tmp_path / "birds.key", "--password-file", tmp_path / "password")
    watch = WatchProcess(tmp_path, key="birds.key", models={"birds": {}})
    outcome = edge_convert("watch", watch.recipe)
    sentence = f"{tmp_path}/birds.key has a password. Give a file with it: password_file."
    assert (outcome.code, outcome.err) == (1, SENTENCE.format(sentence))
    watch = WatchProcess(tmp_path, key="birds.key", password_file="password", models={"birds": {}})
    outcome = edge_convert("watch", watch.recipe, "--once")
    sentence = f"birds has no version: no folder in {watch.source}/birds has a number as its name."
    assert (outcome.code, outcome.err) == (1, SENTENCE.format(f"Not everything was delivered. {sentence}"))


def test_once_exits_with_1_if_a_version_is_not_delivered(tmp_path: Path, edge_convert: EdgeConvert) -> None:
    watch = WatchProcess(tmp_path, rest_s=0, models={"birds": {"mean": 0, "std": 1, "quantize": "none"}})
    watch.source.joinpath("birds/1").mkdir(parents=True)
    watch.source.joinpath("birds/1/saved_model.pb").write_bytes(BARE_GRAPH)
    outcome = edge_convert("watch", watch.recipe, "--once")
    assert outcome.code == 1
    assert outcome.err.endswith(SENTENCE.format("Not everything was delivered. birds 1 is refused."))
    reason = (watch.reports / "birds/1.refused.txt").read_text()
    assert reason.startswith(f"{watch.source}/birds/1 contains no graph for serving")
