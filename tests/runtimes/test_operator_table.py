"""Compares the converter's table of operators with the runtime from which it was generated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converter.target.probe_runtime import main, stating_operator

pytest.importorskip("tflite_runtime", reason="tflite-runtime has its own environment: make test-tflite-runtime")

TABLE = Path(__file__).parents[2] / "converter" / "target" / "tflite_runtime_2_14.json"


def test_table_matches_the_runtime(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert capsys.readouterr().out == TABLE.read_text()


@pytest.mark.parametrize("code", [9, 130, 161])
def test_last_version_loads_and_the_next_does_not(code: int) -> None:
    from tflite_runtime.interpreter import Interpreter  # noqa: PLC0415  (only one environment has it)

    _, last = json.loads(TABLE.read_text())["versions"][str(code)]
    Interpreter(model_content=stating_operator(code, last))
    with pytest.raises(ValueError, match=f"version '{last + 1}'"):
        Interpreter(model_content=stating_operator(code, last + 1))
