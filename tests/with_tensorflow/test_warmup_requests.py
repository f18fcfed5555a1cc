"""Files written by TensorFlow with the messages of TensorFlow Serving, read without either."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorflow as tf
from agents.saved_models import write_warmup_requests
from tensorflow.core.framework.tensor_pb2 import TensorProto

from agent.errors import ModelError
from agent.model_file.warmup_requests import read_warmup_requests

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

IMAGE = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)


def test_requests_have_their_signature_and_tensors(tmp_path: Path) -> None:
    file = write_warmup_requests(tmp_path, [("", {"image": IMAGE}), ("top_5", {"a": IMAGE, "b": IMAGE + 1})])
    first, second = read_warmup_requests(tmp_path)
    assert (first.signature, second.signature) == ("serving_default", "top_5")
    assert {name: value.tolist() for name, value in arrays(second.inputs).items()} == {
        "a": IMAGE.tolist(),
        "b": (IMAGE + 1).tolist(),
    }
    assert arrays(first.inputs)["image"].tolist() == IMAGE.tolist()
    content = file.read_bytes()
    for damaged in (content[:-1], content[:5], b"\1" + content[1:], b"x" * 100):
        file.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"tf_serving_warmup_requests is damaged: .*Write it again"):
            list(read_warmup_requests(tmp_path))


def test_saved_model_without_the_file_has_no_requests(tmp_path: Path) -> None:
    assert list(read_warmup_requests(tmp_path)) == []


def test_more_than_1000_records_are_refused(tmp_path: Path) -> None:
    write_warmup_requests(tmp_path, [("", {})] * 1000)
    assert len(list(read_warmup_requests(tmp_path))) == 1000
    write_warmup_requests(tmp_path, [("", {})] * 1001)
    with pytest.raises(ModelError, match="more than 1000 records"):
        list(read_warmup_requests(tmp_path))


def arrays(inputs: dict[str, bytes]) -> dict[str, npt.NDArray[np.generic]]:
    return {name: tf.make_ndarray(TensorProto.FromString(content)) for name, content in inputs.items()}
