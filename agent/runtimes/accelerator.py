"""Accelerator: computes a model on a GPU or an Edge TPU, in a process of its own.

A driver may crash or hang, and LiteRT holds Python's lock while a GPU computes: neither may stop the agent.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from agent.errors import AcceleratorError
from agent.text import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from agent.model_file.metadata import ModelFile

    Array = npt.NDArray[np.generic]

Kind: TypeAlias = Literal["gpu", "edgetpu"]

DEVICE_NAMES = {"cpu": "CPU", "gpu": "GPU", "edgetpu": "Edge TPU"}

OPENED, REFUSED, DONE, FAILED = b"O", b"R", b"D", b"F"  # how each message of the process begins

_PROCESS = ("-m", "agent.runtimes.accelerator_process")
_ASK = b"c"
_MESSAGE_BYTES = 1 << 16
_OPEN_S = 60.0  # a GPU's driver compiles the model
_ANSWER_S = 10.0
_ADAPTER = re.compile(rb"Selected adapter: (.+?), arch=")  # LiteRT's only way to name the GPU
_LAST_BYTES = 1 << 16


class Accelerator:
    """All workers share it, because a device computes one image at a time, and each copy of a model takes its memory.

    `failure` says why it can no longer be used; then its process has ended.
    """

    def __init__(
        self,
        kind: Kind,
        model: ModelFile,
        *,
        library: str = "",
        open_s: float = _OPEN_S,
        answer_s: float = _ANSWER_S,
        process: Sequence[str] = _PROCESS,
    ) -> None:
        """Takes seconds. `library` is that of the Edge TPU; `process` has the arguments of its Python.

        Call it on a thread that lives as long as the accelerator: the kernel ends the process with it. Raises
        AcceleratorError.
        """
        self.kind: Kind = kind
        self.failure: str | None = None
        self.on_failure: Callable[[str], object] = _nothing
        self._answer_s = answer_s
        self._turn = threading.Lock()  # two workers must not write to the same tensor
        outputs = [[output.alias or output.name, output.name] for output in model.outputs]
        request = {"kind": kind, "library": library, "outputs": outputs, "parent": os.getpid()}
        with contextlib.ExitStack() as parts:
            try:
                self._start(process, {**request, "model_bytes": len(model.content)}, model.content, parts)
            except OSError as error:  # no memory, descriptors or processes are left
                raise AcceleratorError(f"its process cannot be started ({error.strerror})") from None
            self._parts = parts.pop_all()
        try:
            opened = self._opened(open_s)
            tensors = tensors_in(mmap.mmap(self._memory, 0), opened["tensors"])
        except (AcceleratorError, OSError) as error:
            self._end(str(error))
            raise AcceleratorError(str(error)) from error
        self._input, self._outputs = tensors[0], tensors[1:]
        self.device = self._device(is_whole=opened["is_whole"])
        self._log.close()  # the process writes nothing more

    def compute(self, tensor: Array) -> tuple[Array, ...]:
        """The raw values of all outputs, in the order of the file. Raises AcceleratorError, from then on always."""
        with self._turn:
            if self.failure is not None:
                raise AcceleratorError(self.failure)
            try:
                return self._computed(tensor)
            except AcceleratorError as error:
                self._end(str(error))
                raise

    def _computed(self, tensor: Array) -> tuple[Array, ...]:
        if tensor.nbytes != self._input.nbytes:
            raise AcceleratorError(f"it takes {self._input.nbytes} bytes per image, not {tensor.nbytes}")
        np.copyto(self._input, tensor.reshape(-1))
        with contextlib.suppress(OSError):  # the answer says why
            self._control.send(_ASK)
        message = self._receive(self._answer_s)
        if message != DONE:
            raise AcceleratorError(_words(message))
        return tuple(output.copy() for output in self._outputs)

    def fail(self, reason: str) -> None:
        """Ends it, for a fault of its answers that only the caller can see."""
        with self._turn:
            self._end(reason)

    def close(self) -> None:
        """Also when nothing refers to it any more; then no other thread can use it."""
        self.on_failure = _nothing
        self.fail("it was closed")

    def __del__(self) -> None:
        if hasattr(self, "_parts"):
            self.close()

    def _start(
        self, arguments: Sequence[str], request: dict[str, Any], content: bytes, parts: contextlib.ExitStack
    ) -> None:
        """Everything that must be closed enters `parts`. Raises OSError."""
        self._memory = os.memfd_create("tensors", os.MFD_CLOEXEC)
        parts.callback(os.close, self._memory)
        self._log = parts.enter_context(os.fdopen(os.memfd_create("log", os.MFD_CLOEXEC), "rb"))
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parts.enter_context(self._control)
        with theirs:
            with open(self._memory, "wb", closefd=False) as file:
                file.write(content)
            self._control.send(json.dumps(request).encode())
            descriptors = (theirs.fileno(), self._memory)
            self._process = subprocess.Popen(  # noqa: S603  (our own module)
                [sys.executable, *arguments, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=descriptors,
                start_new_session=True,
                cwd="/",  # Python imports from its working directory
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    def _opened(self, open_s: float) -> dict[str, Any]:
        message = self._receive(open_s)
        if message[:1] != OPENED:
            raise AcceleratorError(_words(message))
        opened: dict[str, Any] = json.loads(message[1:])
        return opened

    def _receive(self, within_s: float) -> bytes:
        """Raises AcceleratorError if the process ends or does not answer."""
        answered = select.poll()
        answered.register(self._control, select.POLLIN)
        if not answered.poll(within_s * 1000):
            raise AcceleratorError(f"it did not answer within {within_s:.0f} s")
        try:
            message = self._control.recv(_MESSAGE_BYTES)
        except ConnectionError:
            message = b""
        if not message:
            raise AcceleratorError(self._how_it_died())
        return message

    def _how_it_died(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(10)
            words = self._written()
            if b"bad_alloc" in words or b"MemoryError" in words or code == -signal.SIGKILL:
                return "it needs more memory than is free"
            if code < 0:
                return f"its driver crashed ({signal.Signals(-code).name})"
            last = next((line for line in reversed(words.decode(errors="replace").splitlines()) if line.strip()), "")
            return f"its process ended with exit code {code}{f' ({shortened(printable(last))})' if last else ''}"
        return "it closed its connection"

    def _written(self) -> bytes:
        """The end of what the process wrote until it was open."""
        if self._log.closed:
            return b""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _LAST_BYTES, max(0, size - _LAST_BYTES))

    def _device(self, *, is_whole: bool) -> str:
        found = _ADAPTER.search(self._written())
        name = printable(found[1].decode(errors="replace"))[:80] if found else DEVICE_NAMES[self.kind]
        return name if is_whole else f"{name}, with the CPU for some operators"

    def _end(self, reason: str) -> None:
        if self.failure is not None:
            return
        self.failure = reason
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in a driver
            self._process.wait(1)
        self._parts.close()
        self.on_failure(reason)


def tensors_in(memory: mmap.mmap, forms: Sequence[tuple[int, str]]) -> list[Array]:
    """One after another, each as the number of its values and the name of their type."""
    tensors: list[Array] = []
    offset = 0
    for count, dtype in forms:
        tensors.append(np.frombuffer(memory, dtype, count, offset))
        offset += tensors[-1].nbytes
    return tensors


def _words(message: bytes) -> str:
    return shortened(printable(message[1:].decode(errors="replace")))


def _nothing(reason: str) -> None:
    pass
