"""The process of an accelerator: opens a model on it and computes what it is asked for; it may crash or hang.

Arguments: the descriptors of a socket (SEQPACKET) and of a memory file, which first has the model, then the tensors.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from agent.errors import AcceleratorError
from agent.host.process import die_with_parent
from agent.runtimes.accelerator import DONE, FAILED, OPENED, REFUSED, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

_MESSAGE_BYTES = 1 << 16


class Opened(Protocol):
    """`input` and `outputs` are the number of values and the type of each tensor."""

    @property
    def input(self) -> tuple[int, np.dtype[Any]]: ...
    @property
    def outputs(self) -> Sequence[tuple[int, np.dtype[Any]]]: ...
    @property
    def is_whole(self) -> bool: ...
    def run(self, tensor: Array) -> Sequence[Array]: ...


def main(open_model: Callable[[dict[str, Any], bytes], Opened]) -> None:
    control, memory = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    request = json.loads(control.recv(_MESSAGE_BYTES))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # the kernel kills this process before the agent
    if not die_with_parent(request["parent"]):
        return
    try:
        opened = open_model(request, os.pread(memory, request["model_bytes"], 0))
    except AcceleratorError as error:
        control.send(REFUSED + str(error).encode())
        return
    forms = [opened.input, *opened.outputs]
    os.ftruncate(memory, sum(count * dtype.itemsize for count, dtype in forms))
    quiet = os.open(os.devnull, os.O_WRONLY)  # a driver may write a line for each call
    for descriptor in (1, 2):
        os.dup2(quiet, descriptor)
    named = [(count, dtype.name) for count, dtype in forms]
    control.send(OPENED + json.dumps({"tensors": named, "is_whole": opened.is_whole}).encode())
    taken, *given = tensors_in(mmap.mmap(memory, 0), named)
    while control.recv(1):
        control.send(_computed(opened, taken, given))


def _computed(opened: Opened, taken: Array, given: Sequence[Array]) -> bytes:
    try:
        for place, values in zip(given, opened.run(taken), strict=True):
            np.copyto(place, values.reshape(-1))
    except AcceleratorError as error:
        return FAILED + str(error).encode()
    return DONE


def open_model(request: dict[str, Any], content: bytes) -> Opened:
    """Raises AcceleratorError."""
    if request["kind"] == "edgetpu":
        from agent.runtimes.edge_tpu import EdgeTpuModel  # noqa: PLC0415  (only one of both is needed)

        return EdgeTpuModel(content, library=request["library"])
    from agent.runtimes.compiled_model import GpuModel  # noqa: PLC0415  (likewise)

    return GpuModel(content, request["outputs"])


if __name__ == "__main__":
    main(open_model)
    sys.stderr.flush()
    os._exit(0)  # a driver may crash in its destructors
