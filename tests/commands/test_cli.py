from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import yaml
from agents.models_on_disk import BARE_DIGITS
from agents.shell import Shell
from agents.tiny_models import TinyModel, percent_model
from faults.disk_faults import AS_ORDINARY_USER

from converter.packing.metadata import pack_metadata

pytestmark = pytest.mark.first

REPOSITORY = Path(__file__).parents[2]
DIGITS = REPOSITORY / "demo/digits.tflite"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.full((40, 40), 200, np.uint8))
    return path


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


def test_every_command_has_help(shell: Shell) -> None:
    assert shell.run("--help") == 0
    for command in ("run", "classify", "inspect", "check-config", "bench", "cameras", "models"):
        assert command in shell.out
    for command in ("run", "classify", "inspect", "check-config", "bench", "cameras"):
        assert shell.run(command, "--help") == 0
    assert shell.run("models", "--help") == 0
    for command in ("list", "show", "rollback", "pin", "unpin", "promote"):
        assert command in shell.out
    for command in ("list", "show", "rollback", "pin", "unpin", "promote"):
        assert shell.run("models", command, "--help") == 0


def test_version_prints_the_version_of_the_package(shell: Shell) -> None:
    assert shell.run("--version") == 0
    assert shell.out == f"edge-agent {importlib.metadata.version('edge-agent')}\n"


def test_classify_prints_labels_and_scores(shell: Shell, picture: Path) -> None:
    (answer,) = shell.json("classify", DIGITS, picture, "--max-results", 2)
    assert answer["image"] == str(picture)
    assert len(answer["categories"]) == 2
    assert shell.run("classify", DIGITS, picture, "--max-results", 1) == 0
    assert answer["categories"][0]["label"] in shell.out


@pytest.mark.parametrize(("own", "asked", "lowest"), [(0.02, "auto", 0.02), (None, "auto", 0.5), (0.02, "0.1", 0.1)])
def test_classify_takes_a_score_threshold_or_that_of_the_model(
    own: float | None, asked: str, lowest: float, shell: Shell, picture: Path
) -> None:
    model = picture.with_name("digits.tflite")
    shutil.copy(DIGITS, model)
    if own is not None:
        model.with_suffix(".yaml").write_text(f"unknown_below: {own}\n")
    every, few = ("classify", model, picture, "--max-results", 10), ("--score-threshold", asked)
    scores = [category["score"] for category in shell.json(*every)[0]["categories"]]
    found = [category["score"] for category in shell.json(*every, *few)[0]["categories"]]
    assert len(scores) == 10
    assert 0 < len(found) < 10
    assert found == [score for score in scores if score >= lowest]


@pytest.mark.parametrize("text", ["1.5", "-1", "nan", "high"])
def test_classify_exits_with_2_on_an_invalid_score_threshold(text: str, shell: Shell, picture: Path) -> None:
    assert shell.run("classify", DIGITS, picture, f"--score-threshold={text}") == 2
    assert "not a number from 0 to 1, or auto" in " ".join(shell.err.replace("│", " ").split())


def test_classify_reads_labels_from_a_file(shell: Shell, picture: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"number {n}" for n in range(10)))
    (answer,) = shell.json("classify", DIGITS, picture, "--labels", labels)
    assert answer["categories"][0]["label"].startswith("number ")
    labels.write_text("one\ntwo\n")
    assert shell.run("classify", DIGITS, picture, "--labels", labels) == 1
    assert shell.err.startswith("edge-agent: There are 2 labels for 10 outputs.")


def test_classify_continues_after_a_bad_image_and_exits_with_1(shell: Shell, picture: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not an image")
    assert shell.run("classify", DIGITS, bad, picture, "--json") == 1
    first, second = json.loads(shell.out)
    assert "JPEG, PNG, WebP or BMP" in first["error"]
    assert second["categories"]


def test_classify_exits_with_2_on_an_invalid_mean(shell: Shell, picture: Path) -> None:
    assert shell.run("classify", DIGITS, picture, "--mean", "a") == 2
    assert "is not one number or three" in shell.err


def test_inspect_shows_the_content_of_a_file_that_can_serve(shell: Shell) -> None:
    document = shell.json("inspect", DIGITS)
    assert document["serves_here"] is True
    assert document["labels"] == list("0123456789")
    assert document["inputs"][0]["shape"] == [1, 32, 32, 1]
    assert document["color"] == "gray"
    assert document["min_runtime_version"]
    assert set(document["trial"]) == {"load_ms", "invoke_ms", "processor_ms", "bytes_each", "golden"}
    assert shell.run("inspect", DIGITS) == 0
    assert "1 x 32" in shell.out or "32, 32" in shell.out


def test_inspect_shows_what_the_scores_are_and_the_extremes_seen(shell: Shell, tmp_path: Path) -> None:
    assert shell.json("inspect", DIGITS)["score"] == "probability"
    assert shell.json("inspect", DIGITS)["scores_seen"] is None  # the last operator says it
    model = tmp_path / "m.tflite"
    model.write_bytes(percent_model())
    model.with_suffix(".txt").write_text("a\nb\nc\n")
    model.with_suffix(".yaml").write_text("mean: 0\nstd: 255\n")
    document = shell.json("inspect", model)
    assert document["score"] == "percent"
    assert document["scores_seen"]["kind"] == "percent"
    assert document["scores_seen"]["highest_sum"] == pytest.approx(100, abs=0.1)
    assert 1 < document["scores_seen"]["highest"] <= 100
    assert shell.run("inspect", model) == 0
    assert "percent, seen from" in shell.out


def test_inspect_reports_why_a_model_cannot_serve(shell: Shell, tmp_path: Path) -> None:
    model = tmp_path / "digits.tflite"
    shutil.copy(DIGITS, model)
    model.with_suffix(".txt").write_text("one\ntwo\n")
    assert shell.run("inspect", model, "--json") == 1
    document = json.loads(shell.out)
    assert document["serves_here"] is False
    assert "2 labels for 10 outputs" in document["reason"]


def test_inspect_prints_json_when_a_sidecar_or_the_model_is_bad(shell: Shell, tmp_path: Path) -> None:
    model = tmp_path / "digits.tflite"
    shutil.copy(DIGITS, model)
    model.with_suffix(".yaml").write_text("maen: 1\n")
    assert shell.run("inspect", model, "--json") == 1
    document = json.loads(shell.out)
    assert document["serves_here"] is False
    assert document["trial"] is None
    assert document["labels"] == list("0123456789")
    assert "unknown key 'maen'" in document["reason"]
    model.write_bytes(b"PK\3\4abcdefgh")
    assert shell.run("inspect", model, "--json") == 1
    document = json.loads(shell.out)
    assert document["serves_here"] is False
    assert "zip archive" in document["reason"]


def test_commands_use_labels_txt_next_to_the_only_model(shell: Shell, tmp_path: Path, picture: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(BARE_DIGITS)
    (tmp_path / "labels.txt").write_text("".join(f"{number} n{number}\n" for number in range(10)))
    assert shell.json("inspect", model)["labels"] == [f"n{number}" for number in range(10)]
    (answer,) = shell.json("classify", model, picture)
    assert answer["categories"][0]["label"].startswith("n")
    shutil.copy(model, tmp_path / "n.tflite")
    assert shell.run("classify", model, picture) == 1
    assert "has no labels" in shell.err


def test_inspect_mentions_labels_that_count_from_one(shell: Shell, tmp_path: Path) -> None:
    model = tmp_path / "digits.tflite"
    shutil.copy(DIGITS, model)
    assert shell.json("inspect", model)["notes"] == []
    model.with_suffix(".txt").write_text("".join(f"{number} digit\n" for number in range(1, 11)))
    document = shell.json("inspect", model)
    assert document["labels"][0] == "1 digit"
    assert "begin with the numbers 1 to 10" in document["notes"][0]


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, id="C"),
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii", marks=pytest.mark.long),
        pytest.param({"PYTHONIOENCODING": "latin-1:strict"}, id="latin-1", marks=pytest.mark.long),
    ],
)
def test_labels_are_shown_as_escapes_when_the_output_cannot_encode_them(
    tmp_path: Path, picture: Path, environment: dict[str, str]
) -> None:
    model = tmp_path / "digits.tflite"
    shutil.copy(DIGITS, model)
    model.with_suffix(".txt").write_text("".join(f"日{number}\n" for number in range(10)), encoding="utf-8")
    for command in (["classify", model, picture], ["inspect", model]):
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli", *map(str, command)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert rb"\u65e50" in done.stdout
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read: No such file"), (b"", "The file is empty"), (b"PK\3\4abcdefgh", "zip archive")],
)
def test_commands_print_one_sentence_if_the_file_is_not_a_model(
    shell: Shell, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "x.tflite"
    if content is not None:
        path.write_bytes(content)
    for command in (("inspect", path), ("classify", path, path), ("bench", path, path)):
        assert shell.run(*command) == 1
        assert shell.err.startswith("edge-agent: ")
        assert expected in shell.err
        assert shell.err.count("\n") == 1


def test_bench_measures_each_stage(shell: Shell, picture: Path) -> None:
    document = shell.json("bench", DIGITS, picture, "--rounds", 3)
    assert set(document["median_ms"]) == {"decode", "preprocess", "invoke", "total"}
    assert shell.run("bench", DIGITS, picture, "--rounds", 1) == 0
    assert "median ms" in shell.out


def test_check_config_reports_a_valid_and_an_invalid_file(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("check-config", REPOSITORY / "configs/demo.yaml") == 0
    assert "is valid: 1 camera, models in" in shell.out
    assert shell.json("check-config", REPOSITORY / "configs/agent.yaml")["http"]["port"] == 8501
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("htp: {}\n")
    assert shell.run("check-config", wrong) == 2
    assert shell.err == f"edge-agent: {wrong}, line 1: unknown key htp; did you mean http?\n"


def test_check_config_hides_the_password_of_a_camera(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("cameras: {a: {source: 'rtsp://admin:sesame@cam/live?x=sesame'}, b: {source: photos}}\n")
    cameras = shell.json("check-config", config)["cameras"]
    assert "sesame" not in shell.out
    assert cameras["a"]["source"] == "rtsp://***@cam/live?***"
    assert cameras["b"]["source"] == str(tmp_path / "photos")


def test_check_config_warns_of_the_missing_program_of_a_camera(shell: Shell, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("cameras: {front: {command: {run: [rpicam-vidd]}}, back: {source: csi}}\n")
    assert shell.run("check-config", config) == 0
    assert "Warning: cameras.front: The program rpicam-vidd is not installed, or not in PATH. Install it," in shell.err
    assert "Warning: cameras.back: No program for CSI cameras is installed. On a Raspberry Pi: sudo apt" in shell.err


def test_check_config_prints_the_schema_for_editors(shell: Shell) -> None:
    assert shell.run("check-config", "--schema", "any") == 0
    schema = json.loads(shell.out)
    assert set(schema["properties"]) == set(yaml.safe_load((REPOSITORY / "configs/agent.yaml").read_text()))
    assert schema["additionalProperties"] is False


def test_schema_accepts_the_shipped_configuration_with_its_nulls(shell: Shell) -> None:
    assert shell.run("check-config", "--schema", "any") == 0
    shipped = yaml.safe_load((REPOSITORY / "configs/agent.yaml").read_text())
    assert shipped["device"]["id"] is None
    jsonschema.validate(shipped, json.loads(shell.out))


def test_inspect_and_classify_say_which_settings_have_no_effect(shell: Shell, picture: Path, tmp_path: Path) -> None:
    model = tmp_path / "digits.tflite"
    shutil.copy(DIGITS, model)
    model.with_suffix(".yaml").write_text("mean: 127.5\nstd: 127.5\n")
    sentence = "mean and std have no effect: the uint8 input gets the pixels as they are."
    assert shell.json("inspect", model)["notes"] == [sentence]
    assert shell.run("inspect", model) == 0
    assert shell.out.count("127.5 (no effect)") == 2
    assert shell.run("classify", DIGITS, picture, "--mean", "127.5", "--std", "127.5") == 0
    assert shell.err.count(sentence) == 1
    assert shell.run("classify", DIGITS, picture) == 0
    assert "no effect" not in shell.err


def test_inspect_marks_a_range_in_the_metadata_that_contradicts_the_quantization(shell: Shell, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(
        pack_metadata(
            DIGITS.read_bytes(), labels=list("abcdefghij"), mean=[0.0], std=[1.0], color="gray", name="d", version="1"
        )
    )
    assert "mean and std have no effect" in shell.json("inspect", model)["notes"][0]


def test_inspect_shows_how_an_unusual_model_is_used(shell: Shell, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    tiny = TinyModel()
    features = tiny.pooled(tiny.image(4, 3, 8, 8), (2, 3), (4, 3))
    heads = (tiny.dense(features, 16), tiny.sigmoid(tiny.dense(features, 1)))
    model.write_bytes(tiny.finish(*heads, names=["embedding", "spoiled"]))
    model.with_suffix(".txt").write_text("good\nspoiled\n")
    model.with_suffix(".yaml").write_text("mean: 0\nstd: 255\noutput: spoiled\n")
    document = shell.json("inspect", model)
    assert document["serves_here"] is True
    assert document["outputs"][1]["alias"] == "spoiled"
    assert document["notes"] == [
        "The input has its channels first: the agent transposes each image.",
        "The input is a batch of 4 images: the agent reduces it to 1.",
        "Of the 2 outputs, spoiled (1 x 1) has the scores.",
        "The model has one output p: spoiled gets p, and good gets 1 - p.",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--config"),
        ("doctor", "--config"),
        ("check-config",),
        ("models", "list", "--config"),
        ("inspect",),
        ("classify", "FILE"),
        ("bench", "FILE"),
    ],
    ids=" ".join,
)
@pytest.mark.long
def test_a_file_that_may_not_be_read_is_reported_in_a_sentence_with_the_remedy(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "agent.yaml"
    file.touch(mode=0o000)
    given = [str(file) if word == "FILE" else word for word in words]
    command = [*AS_ORDINARY_USER, str(Path(sys.executable).with_name("edge-agent")), *given, str(file)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    said = answer.stdout + answer.stderr
    assert answer.returncode == (2 if words[-1] in ("--config", "check-config") and words[0] != "doctor" else 1)
    assert "cannot be read: Permission denied." in said
    assert f"may not read {file}. Allow it: chmod u+r {file}." in " ".join(said.split())
    assert "Usage:" not in said
    assert "Traceback" not in said
