"""HTTP servers on a free local port: one for an application, and one that sends fixed bytes or nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peers.certificates import Certificate
    from starlette.types import ASGIApp


@contextmanager
def serving(app: ASGIApp, *, certificate: Certificate | None = None) -> Iterator[int]:
    """Yields the port. With a certificate, it speaks TLS."""
    config = uvicorn.Config(app, log_config=None, lifespan="off")
    if certificate is not None:
        config.ssl_certfile, config.ssl_keyfile = certificate.cert_file, certificate.key_file
    with running(uvicorn.Server(config)) as port:
        yield port


@contextmanager
def running(server: uvicorn.Server) -> Iterator[int]:
    """Yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """Yields the port. Accepts one request, sends `answer` and closes the connection; None sends nothing."""
    over = threading.Event()

    def answer_once() -> None:
        connection, _ = listener.accept()
        with connection:
            while not connection.recv(1 << 16).endswith((b"\r\n\r\n", b"}")):
                pass
            if answer is None:
                over.wait(10)
            else:
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()
