"""Bad gRPC messages of up to 64 MB: the error of the protocol, the memory, and other clients' times."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from agents.running_agent import DIGITS, RunningAgent, wait_until
from end_to_end.abuse import peak_rss_mb, percentile_99_s, upload_times_s
from end_to_end.material import digit_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.figures import Figures

_PREDICT, _CLASSIFY, _METADATA = (
    f"/tensorflow.serving.PredictionService/{name}" for name in ("Predict", "Classify", "GetModelMetadata")
)
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_MAX_BYTES = 8 << 20
_MOST = _MAX_BYTES - 1000


def _varint(number: int) -> bytes:
    low = []
    while number > 127:
        low.append(number & 127 | 128)
        number >>= 7
    return bytes([*low, number])


def _field(number: int, content: bytes | int) -> bytes:
    """A field of a message, as it is sent."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _predict(tensor: bytes, rest: bytes = b"") -> bytes:
    return _field(1, _field(1, b"digits")) + _field(2, _field(1, b"image") + _field(2, tensor)) + rest


def _pixels(*values: bytes, sides: tuple[int, ...] = (1, 32, 32, 1)) -> bytes:
    """A TensorProto of DT_UINT8."""
    shape = b"".join(_field(2, _field(1, side)) for side in sides)
    return _field(1, 4) + _field(2, shape) + b"".join(values)


def _infer(contents: bytes = b"", raw: bytes = b"", *, rest: bytes = b"", datatype: bytes = b"UINT8") -> bytes:
    tensor = _field(1, b"image") + _field(2, datatype) + _field(3, bytes([1, 32, 32, 1])) + contents
    return _field(1, b"digits") + _field(5, tensor) + raw + rest


def _filled(unit: bytes, most: int = _MOST) -> bytes:
    return unit * (most // len(unit))


def _messages() -> Iterator[tuple[str, str, bytes]]:
    """Name, method and message. Each is wrong in one way, and most are as large as a message may be."""
    yield "not a message", _PREDICT, _filled(b"\xff")
    yield "truncated", _PREDICT, _predict(_pixels(_field(4, bytes(_MOST))))[:-1]
    yield "length that lies", _PREDICT, _field(1, b"")[:1] + b"\xff\xff\xff\x7f" + bytes(_MOST)
    yield "content of another length", _PREDICT, _predict(_pixels(_field(4, bytes(_MOST))))
    yield "one-byte values", _PREDICT, _predict(_pixels(_field(7, bytes(_MOST))))
    yield "64-bit values", _PREDICT, _predict(_pixels(_field(10, bytes(_MOST))))
    yield "values that are not packed", _PREDICT, _predict(_pixels(_filled(_field(7, 1))))
    yield "huge shape", _PREDICT, _predict(_pixels(_field(7, b"\1"), sides=(1 << 62,) * 8))
    yield "sides", _PREDICT, _predict(_pixels(_field(2, _filled(_field(2, b"")))))
    yield "inputs", _PREDICT, _predict(_pixels(), _filled(_field(2, b"")))
    yield "outputs", _PREDICT, _predict(_pixels(), _filled(_field(3, b"")))
    yield "no images", _PREDICT, _predict(_field(1, 7) + _filled(_field(8, b"")))
    yield "no image", _PREDICT, _predict(_field(1, 7) + _field(8, bytes(_MOST)))
    yield "unknown fields", _PREDICT, _predict(_pixels(), _filled(_field(100, 0)))
    yield "groups", _PREDICT, _predict(_pixels(), _filled(b"\xa3\x06\xa4\x06"))
    yield "nested groups", _PREDICT, _filled(b"\xa3\x06")
    yield "examples", _CLASSIFY, _field(1, _field(1, b"digits")) + _field(2, _field(1, _filled(_field(1, b""))))
    yield "features", _CLASSIFY, _field(2, _field(1, _field(1, _field(1, _filled(_field(1, b""))))))
    yield "fields of the metadata", _METADATA, _field(1, _field(1, b"digits")) + _filled(_field(2, b""))
    for number, name in enumerate(("bool", "int", "int64", "uint", "uint64", "fp32", "fp64"), 1):
        yield f"{name}_contents", _INFER, _infer(_field(5, _field(number, bytes(_MOST & ~7))))
    yield "elements", _INFER, _infer(_field(5, _filled(_field(8, b""))), datatype=b"BYTES")
    yield "sides of the shape", _INFER, _infer(_field(3, bytes(_MOST)))
    yield "parameters", _INFER, _infer(rest=_filled(_field(4, b"")))
    yield "raw of another length", _INFER, _infer(raw=_field(7, bytes(_MOST)))
    yield "raw length that lies", _INFER, _infer(raw=_field(7, b"\xff" * _MOST), datatype=b"BYTES")
    yield "many raw", _INFER, _infer(raw=_filled(_field(7, b"")))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path, grpc={"enabled": True, "port": 0}) as running:
        running.drop(DIGITS.read_bytes())
        wait_until(lambda: running.post("/predict", content=digit_png()).is_success, what="the model serves")
        yield running
        assert "Traceback" not in running.log


def _address(agent: RunningAgent) -> str:
    found = re.search(r"gRPC (127\.0\.0\.1:\d+),", agent.log)
    assert found is not None
    return found[1]


def _refusal(channel: Any, path: str, message: bytes) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(message, timeout=20)
    return caught.value


def test_bad_messages_are_refused_without_much_memory(agent: RunningAgent, figures: Figures) -> None:
    """GRPC copies a message twice while it receives it, and protobuf once more; a freed copy may stay allocated."""
    most_mb = 26
    grown = {}
    with grpc.insecure_channel(_address(agent)) as channel:
        for name, path, message in [("64 MB", _PREDICT, bytes(64 << 20)), *_messages()]:
            with peak_rss_mb(agent) as growth_mb:
                error = _refusal(channel, path, message)
                grown[name] = growth_mb() - min(len(message), _MAX_BYTES) / (1 << 20)
            is_larger = len(message) > _MAX_BYTES
            expected = grpc.StatusCode.RESOURCE_EXHAUSTED if is_larger else grpc.StatusCode.INVALID_ARGUMENT
            assert (error.code(), name) == (expected, name), error.details()
    name = "bad gRPC messages of up to 64 MB: growth of memory (RSS) beyond a message of 8 MB"
    figures(name, f"under {most_mb} MB", f"{max(grown.values()):.1f} MB")
    assert {name: mb for name, mb in grown.items() if mb >= most_mb} == {}


@pytest.mark.alone
def test_bad_messages_delay_no_other_client(agent: RunningAgent, figures: Figures) -> None:
    def p99_s() -> float:
        end_s = time.monotonic() + 8
        return percentile_99_s(upload_times_s(agent, digit_png(), until=lambda: time.monotonic() > end_s))

    own_s = p99_s()
    # Another process: a thread would delay the client that is measured.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, _address(agent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "INVALID_ARGUMENT\n"
        with_messages_s = p99_s()
        sender.terminate()
        codes = set(sender.stdout.read().split())
    figures("bad gRPC messages: p99 of another client", "under twice its own", f"{with_messages_s / own_s:.2f} times")
    assert codes == {"INVALID_ARGUMENT"}
    assert with_messages_s < 2 * own_s


def _send(address: str) -> None:
    """Sends the messages in turn, and prints the code of each answer."""
    messages = list(_messages())
    with grpc.insecure_channel(address) as channel:
        for _, path, message in itertools.cycle(messages):
            print(_refusal(channel, path, message).code().name, flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    _send(sys.argv[1])
