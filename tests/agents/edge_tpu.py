"""A stand-in for the Edge TPU's delegate library, compiled from edge_tpu.c: no test has the hardware."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from needs import need


def edge_tpu_library(folder: Path) -> Path:
    """Compiles it into `folder`, under the name that LD_LIBRARY_PATH makes the agent find."""
    compiler = shutil.which("cc")
    need(compiler, "the C compiler is missing: apt-get install gcc")
    library = folder / "libedgetpu.so.1"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(
        [str(compiler), "-shared", "-fPIC", "-O1", "-ffreestanding", "-nostdlib", "-o", str(library), str(source)],
        check=True,
    )
    return library
