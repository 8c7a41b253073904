"""Memory and time of exporting and quantizing language models of random weights to 4 bits, for both runtimes.

python -m benchmarks.language_memory DIR [MILLIONS...]      # default 50 150 500

The checkpoints (Llama, float16, shards of 200 MB) are written into DIR, and stay there. Each run has its own process;
its peak is that of resident memory, pages of mapped files included, and seconds are those of the processor.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import ROOT, machine, table
from benchmarks.peak import peak_bytes

# millions -> hidden, inner, layers, heads, kv heads, vocabulary; the head is tied
SIZES = {
    50: (512, 1408, 12, 8, 2, 32000),
    150: (768, 2112, 20, 12, 3, 32000),
    500: (1280, 3584, 26, 20, 4, 32000),
}
_SHARD = 200e6  # bytes


def write(folder: Path, millions: int) -> None:
    """A checkpoint, a shard at a time."""
    from safetensors.numpy import save_file

    hidden, inner, layers, heads, pairs, vocabulary = SIZES[millions]
    narrow = hidden // heads * pairs
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    parts = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    shapes |= {f"model.layers.{i}.{name}.weight": shape for i in range(layers) for name, shape in parts.items()}
    rng, shard, places, count = np.random.default_rng(0), dict[str, np.ndarray](), dict[str, str](), 0
    folder.mkdir(parents=True)
    for name, shape in shapes.items():
        array = np.ones(shape) if len(shape) == 1 else rng.standard_normal(shape, np.float32) / np.sqrt(shape[1])
        shard[name] = array.astype(np.float16)
        if sum(a.nbytes for a in shard.values()) > _SHARD or name == next(reversed(shapes)):
            file = f"model-{count:05}.safetensors"
            save_file(shard, folder / file)
            places |= dict.fromkeys(shard, file)
            shard, count = {}, count + 1
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    config = {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": pairs, "vocab_size": vocabulary, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048, "tie_word_embeddings": True, "torch_dtype": "float16", "eos_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def run(source: Path, out: Path) -> None:
    """In a process of its own: prints seconds by stage, and the peak."""
    from exporter import language
    from exporter.recipe import with_arguments

    begun: dict[str, float] = {}

    def tell(stage: str, done: int, total: int | None) -> None:
        begun.setdefault(stage, time.process_time())

    recipe = with_arguments(None, {"source": str(source), "weights": "int4", "rounder": "nearest", "context": 512})
    language.make(recipe, source, base=Path(), out=out, progress=tell)
    moments = [*begun.values(), time.process_time()]
    stages = {name: b - a for name, a, b in zip(begun, moments, moments[1:], strict=False)}
    peak = peak_bytes()
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    print("\n" + json.dumps({"stages": stages, "peak": peak, "sizes": sizes}))


def main() -> None:
    """For each size: peak memory in MB, seconds of the processor by stage, MB of both files."""
    if sys.argv[1] == "run":
        run(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    place = Path(sys.argv[1])
    rows = []
    for millions in [int(n) for n in sys.argv[2:]] or list(SIZES):
        source, out = place / f"{millions}m", place / f"{millions}m-bundle"
        if not source.is_dir():
            write(source, millions)
        if out.is_dir():
            sys.exit(f"{out} is there: remove it first")
        command = [sys.executable, "-m", "benchmarks.language_memory", "run", str(source), str(out)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        half = sum(path.stat().st_size for path in source.glob("*.safetensors"))
        sizes, limit = found["sizes"], 2 * half + 1.5e9
        onnx = sizes["model.onnx"] + sizes.get("model.onnx.data", 0)
        rows.append(
            [
                f"{half / 2e6:.0f} M", f"{half / 1e6:.0f}", f"{found['peak'] / 1e6:.0f}", f"{limit / 1e6:.0f}",
                f"{sum(found['stages'].values()):.0f}", ", ".join(f"{k} {v:.0f}" for k, v in found["stages"].items()),
                f"{onnx / 1e6:.0f}", f"{sizes['model.tflite'] / 1e6:.0f}",
            ]
        )  # fmt: skip
        print(rows[-1], flush=True)
    print(machine("onnxruntime", "onnx-ir"), "\n")
    head = [
        "parameters",
        "float16, MB",
        "peak, MB",
        "2 x float16 + 1.5 GB",
        "processor s",
        "of them",
        "ONNX, MB",
        "TFLite, MB",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
