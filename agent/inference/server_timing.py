"""Server timing: the text in which an answer says where its time went (W3C Server Timing)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.classification import Timing


def server_timing(timings: Iterable[Timing]) -> str:
    """Milliseconds of all images of a request together; several workers may have spent them at the same time."""
    queue = decode = preprocess = invoke = 0.0
    for timing in timings:
        queue += timing.queue
        decode += timing.decode
        preprocess += timing.preprocess
        invoke += timing.invoke
    return f"queue;dur={queue:.3f}, decode;dur={decode:.3f}, preprocess;dur={preprocess:.3f}, invoke;dur={invoke:.3f}"
