"""Tables and sentences of edge-convert with untrusted names in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from converter import cli
from converter.terminal import print_inspection, print_notes

if TYPE_CHECKING:
    from pathlib import Path

RED, TITLE = "\x1b[31m", "\x1b]0;title\x07"


def test_inspection_table_has_no_escape_sequences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    signature = {
        "signature": f"serve{TITLE}",
        "inputs": [{"name": f"{RED}image[red]", "shape": [-1, 8, 8, 3], "dtype": "float32"}],
        "outputs": [{"name": "scores", "shape": [-1, 2], "dtype": "float32"}],
        "image_classifier": True,
        "lacks_in_tflite": [f"Sinh{RED}"],
    }
    print_inspection({"path": f"birds{RED}", "signatures": [signature]})
    shown = capsys.readouterr().out
    assert "?[31mimage[red]: float32 ? x 8 x 8 x 3" in shown
    assert "serve?]0;title?" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_note_has_no_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    print_notes([f"red/{RED}\n1.png was left out."])
    assert capsys.readouterr().err == "edge-convert: red/?[31m?1.png was left out.\n"


def test_name_with_line_breaks_adds_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_inspection({"path": "a\nkind  harmless\r\u2028b", "kind": "Keras .h5 file", "signatures": []})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["path", "kind"]
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(tmp_path / "absent\nedge-convert: written")])
    assert capsys.readouterr().err == f"edge-convert: {tmp_path}/absent?edge-convert: written does not exist.\n"


def test_error_has_no_escape_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(tmp_path / f"absent{RED}")])
    assert end.value.code == 1
    assert capsys.readouterr().err == f"edge-convert: {tmp_path}/absent?[31m does not exist.\n"


def hostile_file(path: Path, class_name: str) -> Path:
    """An HDF5 file as Keras writes it, with escape sequences in its names."""
    h5py = pytest.importorskip("h5py", reason="TensorFlow has an environment of its own: .venv-converter")
    entry = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "name": f"image{TITLE}"}}
    layers = [entry, {"class_name": class_name, "config": {"name": f"flat{RED}"}}]
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = f"3.0{RED}"
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = []
    return path


@pytest.mark.parametrize("extra", [[], ["--debug"], ["--json"]])
def test_inspection_of_a_foreign_file_has_no_escape_sequences(
    extra: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = hostile_file(tmp_path / f"m{RED}.h5", "Flatten")
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(path), *extra])
    shown = capfd.readouterr()
    assert end.value.code == 0
    assert "\x1b" not in shown.out + shown.err
    assert "\x07" not in shown.out + shown.err
    assert "image" in shown.out


@pytest.mark.parametrize("extra", [[], ["--debug"]])
def test_refusal_of_a_foreign_file_has_no_escape_sequences(
    extra: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = hostile_file(tmp_path / "m.h5", f"Own{RED}Layer")
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(path), *extra])
    shown = capfd.readouterr().err
    assert end.value.code == 1
    assert "\x1b" not in shown
    assert "the code of its layer 'Own\\x1b[31mLayer' is not in the file" in shown
