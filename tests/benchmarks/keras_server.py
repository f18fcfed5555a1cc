"""A Keras model behind FastAPI, as many examples show it: `keras_server.py MODEL.keras PORT`, in .venv-converter.

Each request decodes an image, scales it and calls model.predict().
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
model = tf.keras.models.load_model(sys.argv[1])
_, _height, _width, _ = model.input_shape


def classified(content: bytes) -> dict[str, object]:
    pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    image = cv2.resize(pixels, (_width, _height)).astype(np.float32) / 127.5 - 1
    scores = model.predict(image[np.newaxis], verbose=0)[0]
    return {"categories": [{"index": int(index), "score": float(scores[index])} for index in scores.argsort()[:-6:-1]]}


@app.get("/health")
def health() -> Response:
    return Response()


@app.post("/predict")
async def predict(request: Request) -> dict[str, object]:
    return classified(await request.body())


if __name__ == "__main__":
    model.predict(np.zeros((1, _height, _width, 3), np.float32), verbose=0)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
