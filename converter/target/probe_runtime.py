"""Probe: lists the builtin operators of this Python's tflite-runtime, with versions (make operator-table).

The runtime publishes no list, but refuses a model that declares an unsupported operator, even if no layer uses it. So
the probe tries an otherwise empty model for every operator code and version.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from converter.packing.flatbuffer import Writer

_CODES = range(256)  # tflite-runtime 2.14 ends at 161, LiteRT 2.3 at 209
_VERSIONS = range(1, 33)  # tflite-runtime 2.14 goes up to 10, LiteRT 2.3 to 14
_CUSTOM = 32
_LARGEST_OLD_CODE = 127


def main() -> None:
    """Print the table as JSON: for each operator number its first and last version."""
    import tflite_runtime  # noqa: PLC0415  (only one environment has it)

    rows = ",\n".join(f'    "{code}": {json.dumps(ends)}' for code, ends in probe().items())
    sys.stdout.write(
        f'{{\n  "runtime": "tflite-runtime {tflite_runtime.__version__}",\n  "versions": {{\n{rows}\n  }}\n}}\n'
    )


def probe() -> dict[int, tuple[int, int]]:
    """The first and last version of every supported operator. Takes a second."""
    from tflite_runtime.interpreter import Interpreter  # noqa: PLC0415  (only one environment has it)

    found = {}
    for code in _CODES:
        versions = [version for version in _VERSIONS if code != _CUSTOM and _has(Interpreter, code, version)]
        if versions:
            found[code] = (versions[0], versions[-1])
            if len(versions) != versions[-1] - versions[0] + 1:
                raise SystemExit(
                    f"Operator {code} has the versions {versions}. The table cannot express gaps; extend it."
                )
    return found


def stating_operator(code: int, version: int) -> bytes:
    """A .tflite that declares this operator, with one empty graph."""
    writer = Writer()
    operator = writer.table({}, enums={0: min(code, _LARGEST_OLD_CODE)}, uints={2: version, 3: code})
    graph = writer.table({field: writer.vector([]) for field in range(4)})
    parts = {1: writer.vector([operator]), 2: writer.vector([graph]), 4: writer.vector([writer.table({})])}
    return writer.finish(writer.table(parts, uints={0: 3}), b"TFL3")


def _has(make: Any, code: int, version: int) -> bool:
    try:
        make(model_content=stating_operator(code, version))
    except ValueError as error:
        if re.search("Didn't find op|code out of range", str(error)):
            return False
        raise  # other errors do not concern this operator
    return True


if __name__ == "__main__":
    main()
