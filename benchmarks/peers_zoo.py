"""Nets of the zoo through litert-torch and ai-edge-quantizer. Runs in their environment; others start it.

python -m benchmarks.peers_zoo OUT NAME...

Writes NAME.float.tflite and NAME.int8.tflite, 4-d inputs and outputs in NHWC; prints one line of JSON for each net:
seconds of each step with imports left out, and the process's peak memory so far.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import litert_torch
import torch
from ai_edge_quantizer import quantizer

from benchmarks.conversion import large_mlp
from benchmarks.peak import peak_bytes
from benchmarks.peers_convert import recipe
from tests.zoo.cases import CASES, build, samples


def convert(name: str, out: Path) -> dict[str, object]:
    """Float, then static int8 from 128 samples of the zoo's noise."""
    if name == "large_mlp":
        net, feeds = large_mlp(), {"x": torch.zeros(1, 4096).numpy()}
    else:
        case = CASES[name]
        net, feeds = build(case), samples(case, 1, 0)
    example = tuple(torch.from_numpy(a) for a in feeds.values())
    turned = [i for i, a in enumerate(feeds.values()) if a.ndim == 4]
    with torch.no_grad():
        result = net(*example)
    outs = [i for i, t in enumerate(result if isinstance(result, tuple) else (result,)) if t.ndim == 4]
    start = time.perf_counter()
    if turned:
        net = litert_torch.to_channel_last_io(net, args=turned, outputs=outs).eval()
        example = tuple(t.permute(0, 2, 3, 1) if i in turned else t for i, t in enumerate(example))
    path = out / f"{name}.float.tflite"
    litert_torch.convert(net, example).export(str(path))
    seconds = {"convert": time.perf_counter() - start}
    peak = peak_bytes()
    if name != "large_mlp":
        work = quantizer.Quantizer(str(path), recipe().get_quantization_recipe())
        data = []
        for seed in range(128):
            arrays = samples(case, 1, seed).values()
            turned_arrays = (a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in arrays)
            data.append({f"args_{i}": a for i, a in enumerate(turned_arrays)})
        start = time.perf_counter()
        ranges = work.calibrate({"serving_default": data}, num_threads=1)
        seconds["calibrate"] = time.perf_counter() - start
        start = time.perf_counter()
        model = work.quantize(ranges, enable_progress_report=False).quantized_model
        (out / f"{name}.int8.tflite").write_bytes(model)
        seconds["quantize"] = time.perf_counter() - start
    return {"name": name, "peak": peak, **seconds}


def main(out: Path, names: list[str]) -> None:
    """Their files of each net; seconds of each step and peak memory, one line of JSON a net."""
    for name in names:
        try:
            found = convert(name, out)
        except Exception as error:  # what they cannot convert is a row of the table
            found = {"name": name, "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
