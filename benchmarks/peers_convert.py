"""ResNet-20 through litert-torch and ai-edge-quantizer. Runs in their environment; peers_latency.py starts it.

python -m benchmarks.peers_convert OUT.tflite

Prints one line of JSON: seconds of each step, imports left out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import litert_torch
import torch
from ai_edge_quantizer import qtyping, quantizer, recipe_manager

from benchmarks.measure import cifar10, data
from tests.nets.resnet import resnet20


def recipe() -> recipe_manager.RecipeManager:
    """Their static int8 recipe with float inputs and outputs, as in our artifact."""
    rules = recipe_manager.RecipeManager()
    names = qtyping.TFLOperationName
    rules.add_static_config(".*", names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for edge in (names.INPUT, names.OUTPUT):
        rules.add_quantization_config(".*", edge, algorithm_key=recipe_manager.AlgorithmName.NO_QUANTIZE)
    return rules


def main(out: Path) -> None:
    """Write their int8 file; print seconds of its three steps as JSON."""
    net = resnet20()
    state = torch.load(data("resnet20-12fca82f.th"), map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    net = litert_torch.to_channel_last_io(net.eval(), args=[0]).eval()
    images = cifar10("cifar10_calib.npz")[0][:512]
    example = (torch.from_numpy(images[:1]),)

    start = time.perf_counter()
    converted = litert_torch.convert(net, example)
    converted.export(str(out))
    seconds = {"convert": time.perf_counter() - start}

    work = quantizer.Quantizer(str(out), recipe().get_quantization_recipe())
    start = time.perf_counter()
    ranges = work.calibrate({"serving_default": [{"args_0": image[None]} for image in images]}, num_threads=1)
    seconds["calibrate"] = time.perf_counter() - start
    start = time.perf_counter()
    out.write_bytes(work.quantize(ranges, enable_progress_report=False).quantized_model)
    seconds["quantize"] = time.perf_counter() - start
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
