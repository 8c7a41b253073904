"""Image classifiers of both runtimes as functions, one thread each: float32 [1,H,W,C] -> the first output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter

__all__ = ["onnx_runner", "tflite_runner"]

Images = npt.NDArray[np.float32]


def onnx_runner(path: Path) -> Callable[[Images], Images]:
    """Of a file whose input is NCHW."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image.transpose(0, 3, 1, 2)})[0]


def tflite_runner(path: Path) -> Callable[[Images], Images]:
    """Of a file whose input is NHWC."""
    lite = Interpreter(str(path), num_threads=1)
    lite.allocate_tensors()
    source, result = lite.get_input_details()[0]["index"], lite.get_output_details()[0]["index"]

    def run(image: Images) -> Images:
        lite.set_tensor(source, image)
        lite.invoke()
        return lite.get_tensor(result)

    return run
