"""The same model behind LitServe: `litserve_server.py MODEL PORT WORKERS`, in .venv-litserve.

It decodes, resizes and invokes as an ordinary LitServe program does, with plain bilinear interpolation. LitServe
reads the types of the parameters, so they must not be strings.
"""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from fastapi import Request
from litserve import LitAPI, LitServer


class _Classifier(LitAPI):  # type: ignore[misc]  # LitServe is not in .venv
    def __init__(self, model: Path) -> None:
        super().__init__()
        self._model = model

    def setup(self, device: str) -> None:
        cv2.setNumThreads(1)
        self._interpreter = Interpreter(model_content=self._model.read_bytes(), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def decode_request(self, request: Request) -> Any:
        return cv2.imdecode(np.frombuffer(request["file"].file.read(), np.uint8), cv2.IMREAD_COLOR)

    def predict(self, x: Any) -> Any:
        _, height, width, _ = self._input["shape"]
        pixels = cv2.cvtColor(cv2.resize(x, (width, height)), cv2.COLOR_BGR2RGB)
        self._interpreter.set_tensor(self._input["index"], pixels[np.newaxis])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]

    def encode_response(self, output: Any) -> Any:
        return {"categories": [{"index": int(index), "raw": int(output[index])} for index in output.argsort()[:-6:-1]]}


if __name__ == "__main__":
    server = LitServer(_Classifier(Path(sys.argv[1])), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
