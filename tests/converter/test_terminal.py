"""Tables and sentences of edge-convert with untrusted names in them."""

from __future__ import annotations

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
    assert capsys.readouterr().err == "edge-convert: red/?[31m\n1.png was left out.\n"


def test_error_has_no_escape_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", str(tmp_path / f"absent{RED}")])
    assert end.value.code == 1
    assert capsys.readouterr().err == f"edge-convert: {tmp_path}/absent?[31m does not exist.\n"
