"""What all peers share: the preprocessing of images and the shipped graph. Runs in the peers' environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

BUNDLE = os.environ["BENCHMARK_BUNDLE"]
SIZE = int(os.environ["BENCHMARK_SIZE"])
RUNTIME = os.environ.get("BENCHMARK_RUNTIME", "openvino")
PRECISION = os.environ.get("BENCHMARK_PRECISION", "f32")
CORES = int(os.environ.get("BENCHMARK_CORES", "2"))
PORT = int(os.environ.get("PORT", "0"))

Predict = Callable[[np.ndarray], dict[str, Any]]
cv2.setNumThreads(1)


def prepare(data: bytes) -> np.ndarray:
    """Decodes, crops the central square and shrinks it by area averaging, as in the model's training: uint8 ``[1, S, S, 3]``."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[np.newaxis]


def answer(outputs: dict[str, Any]) -> dict[str, Any]:
    """The answer to a client."""
    return {
        "malignancy": float(outputs["malignancy"][0]),
        "novelty": float(outputs["novelty"][0]),
        "probability": [float(value) for value in outputs["probability"][0]],
    }


def load(threads: int = CORES) -> Predict:
    """The graph on ``threads`` cores, in the runtime that BENCHMARK_RUNTIME names; callable from several threads.

    OpenVINO computes in BENCHMARK_PRECISION, f32 or int8, TensorFlow in f32.
    """
    return _openvino(threads) if RUNTIME == "openvino" else _signature(threads)


def _openvino(threads: int) -> Predict:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT" if threads > 1 else "LATENCY"}
    if PRECISION == "f32":
        settings["LP_TRANSFORMS_MODE"] = "NO"  # else OpenVINO computes a quantised graph in integers, whatever the hint
    compiled = ov.Core().compile_model(BUNDLE, "CPU", settings | {"INFERENCE_NUM_THREADS": threads})
    ports = {name: port for port in compiled.outputs for name in port.get_names()}
    local = threading.local()

    def predict(batch: np.ndarray) -> dict[str, Any]:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        local.request.infer([batch])
        return {name: local.request.get_tensor(ports[name]).data for name in ("malignancy", "novelty", "probability")}

    predict(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    return predict


def _signature(threads: int) -> Predict:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    call = tf.saved_model.load(BUNDLE).signatures["serving_default"]

    def predict(batch: np.ndarray) -> dict[str, Any]:
        return {name: value.numpy() for name, value in call(image=tf.constant(batch)).items()}

    predict.call = call  # type: ignore[attr-defined]  # a SavedModel lives as long as its signature is held
    predict(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    return predict


def keras_predict() -> Predict:
    """``model.predict`` of the same SavedModel, as tutorials call it."""
    import keras

    image = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    model = keras.Model(image, keras.layers.TFSMLayer(BUNDLE, call_endpoint="serving_default")(image))

    def predict(batch: np.ndarray) -> dict[str, Any]:
        return model.predict(batch, verbose=0)

    predict(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    return predict
