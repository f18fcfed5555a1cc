from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.errors import ModelError
from agent.model_file.settings import ModelSettings, parse_settings, read_sidecars, sidecar_paths

if TYPE_CHECKING:
    from pathlib import Path


def test_later_settings_override_earlier_ones_if_they_are_set() -> None:
    file = ModelSettings(labels=("a", "b"), mean=(1.0,), std=(2.0,), color="rgb")
    sidecar = ModelSettings(mean=(3.0,), resize="crop")
    configured = ModelSettings(std=(4.0,), resize="pad", score="logits")
    assert file.overridden_by(sidecar).overridden_by(configured) == ModelSettings(
        labels=("a", "b"), mean=(3.0,), std=(4.0,), color="rgb", resize="pad", score="logits"
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", ModelSettings()),
        ("# nothing\n", ModelSettings()),
        ("mean: 127.5\nstd: 127.5", ModelSettings(mean=(127.5,), std=(127.5,))),
        ("mean: [1, 2, 3]\nstd: [4, 5, 6]", ModelSettings(mean=(1, 2, 3), std=(4, 5, 6))),
        (
            "color: bgr\nresize: pad\nresample: area\nscore: logits",
            ModelSettings(color="bgr", resize="pad", resample="area", score="logits"),
        ),
        ("output: Identity:0\nscore: percent", ModelSettings(score="percent", output="Identity:0")),
        ("unknown_below: 0.62", ModelSettings(unknown_below=0.62)),
        ("unknown_below: 1", ModelSettings(unknown_below=1.0)),
        ("temperature: 2", ModelSettings(temperature=2.0)),
        ("labels: [cat, 7, 0.5]", ModelSettings(labels=("cat", "7", "0.5"))),
        ("labels: ['no', 'yes']", ModelSettings(labels=("no", "yes"))),
        ("mean:\nstd: 2", ModelSettings(std=(2,))),
    ],
)
def test_settings_are_read(text: str, settings: ModelSettings) -> None:
    assert parse_settings(text, where="m.yaml") == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean: [1", "is not valid YAML"),
        ("mean: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("mean: 2001-13-45", "is not valid YAML: month must be in 1..12"),
        ("[" * 1000, "is not valid YAML"),
        ("mean: " + "1" * 5000, "is not valid YAML"),
        ("- mean", "must contain lines like `mean: 127.5`, not a list"),
        (
            "maen: 127.5",
            "unknown key 'maen'. Supported: labels, mean, std, color, resize, resample, score, output, unknown_below",
        ),
        ("7: 1", "unknown key '7'"),
        ("std: 0", "std must not be 0"),
        ("std: [1, 0, 1]", "std must not be 0"),
        ("mean: [1, 2]", "mean must be one number, or three"),
        ("mean: []", "mean must be one number, or three"),
        ("mean: high", "mean must be one number, or three"),
        ("mean: true", "mean must be one number, or three"),
        ("std: .inf", "std must be one number, or three"),
        ("std: .nan", "std must be one number, or three"),
        ("mean: 1" + "0" * 400, "mean must be one number, or three"),
        ("color: green", "color must be one of rgb, bgr, gray, not 'green'"),
        ("resize: [crop]", "resize must be one of stretch, crop, pad"),
        ("resample: lanczos", "resample must be one of antialias, bilinear, nearest, bicubic, area"),
        ("score: softmax", "score must be one of probability, percent, logits"),
        ("output: 1", "output must be the name of an output as text, not 1"),
        ("unknown_below: 1.5", "unknown_below must be a number from 0 to 1, not 1.5"),
        ("unknown_below: .nan", "unknown_below must be a number from 0 to 1, not nan"),
        ("unknown_below: true", "unknown_below must be a number from 0 to 1, not True"),
        ("unknown_below: auto", "unknown_below must be a number from 0 to 1, not 'auto'"),
        ("temperature: 0", "temperature must be a number from 0.01 to 100, not 0"),
        ("temperature: .inf", "temperature must be a number from 0.01 to 100, not inf"),
        ("temperature: true", "temperature must be a number from 0.01 to 100, not True"),
        ("? 0x" + "f" * 5000 + "\n: 1", "Exceeds the limit"),
        ('labels: ["\\uD800", cat]', "labels must be valid Unicode"),
        ("labels: cat", "labels must be a list of names"),
        ("labels: [yes, no]", "put words like yes, no, on, off and null in quotes"),
        ("labels: [null, cat]", "put words like yes, no, on, off and null in quotes"),
    ],
)
def test_invalid_settings_are_refused(text: str, words: str) -> None:
    with pytest.raises(ModelError, match="m.yaml.*" + words):
        parse_settings(text, where="m.yaml")


def test_sidecars_have_the_name_of_the_model(tmp_path: Path) -> None:
    model = tmp_path / "my.model.v2.tflite"
    assert [path.name for path in sidecar_paths(model)] == ["my.model.v2.txt", "my.model.v2.yaml"]
    assert read_sidecars(model) == ModelSettings()
    (tmp_path / "my.model.v2.txt").write_text("a\nb\n")
    (tmp_path / "my.model.v2.yaml").write_text("mean: 1\n")
    assert read_sidecars(model) == ModelSettings(labels=("a", "b"), mean=(1,))


def test_labels_in_the_yaml_override_those_in_the_text_file(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("a\nb\n")
    (tmp_path / "m.yaml").write_text("labels: [c, d]\n")
    assert read_sidecars(tmp_path / "m.tflite").labels == ("c", "d")


def test_sidecar_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"mean: 1 # \xb5\n")
    with pytest.raises(ModelError, match=r"m.yaml is not UTF-8 text"):
        read_sidecars(tmp_path / "m.tflite")


def test_unreadable_sidecar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(
        path: Path, *, max_bytes: int, root: Path | None
    ) -> bytes:  # root, which may run the tests, can read every file
        raise PermissionError(13, os.strerror(13), str(path))

    (tmp_path / "m.txt").write_text("a\n")
    monkeypatch.setattr("agent.model_file.settings.read_plain_file", refuse)
    with pytest.raises(ModelError, match=r"m\.txt cannot be read: Permission denied"):
        read_sidecars(tmp_path / "m.tflite")
