"""Language models of the sample's family: torch's text, bits and rounders, speed, on both runtimes, one thread.

python -m benchmarks.language text CHECKPOINT                     # greedy text and chunked prompts against torch
python -m benchmarks.language make CHECKPOINT TRAIN TEST --out DIR    # one bundle for each row; those that exist stay
python -m benchmarks.language figures DIR                         # quality, size and speed of all of them, in turn

sample_apps/shakespeare/train.py makes the checkpoints and both texts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import machine, table
from exporter import language
from exporter.lm import build
from exporter.lm.source import open_decoder
from exporter.recipe import with_arguments
from targets.agent import decoders
from targets.agent.language import quality, speed

# name -> keys of the recipe; groups of 32 inputs below 8 bits
ROWS: dict[str, dict[str, Any]] = {
    "int8": {"weights": "int8"},
    "int8 groups": {"weights": "int8", "granularity": 32, "runtimes": ["onnxruntime"]},
    "int4 nearest": {"weights": "int4", "rounder": "nearest"},
    "int4 hqq": {"weights": "int4", "rounder": "hqq"},
    "int4 gptq": {"weights": "int4", "rounder": "gptq"},
    "int3 nearest": {"weights": "int3", "rounder": "nearest"},
    "int3 gptq": {"weights": "int3", "rounder": "gptq"},
    "int2 nearest": {"weights": "int2", "rounder": "nearest"},
    "int2 gptq": {"weights": "int2", "rounder": "gptq"},
}
_WRITTEN, _PROMPT = 200, 32
_PIECES = (1, 7, 16, 8)


def text(checkpoint: Path) -> None:
    """Greedy text of torch and of both files in float; a prompt in pieces against the whole."""
    import tempfile

    import torch
    from transformers import AutoModelForCausalLM

    decoder = open_decoder(checkpoint)
    plan = decoder.plan
    prompt = np.random.default_rng(0).integers(1, plan.vocabulary, _PROMPT)
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    settings = {"max_new_tokens": _WRITTEN, "min_new_tokens": _WRITTEN, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(torch.from_numpy(prompt)[None], **settings)[0, _PROMPT:].tolist()
    facts = {"context": plan.context, "kv_heads": plan.kv_heads, "head_size": plan.heads.padded}
    facts["vocabulary"] = plan.vocabulary
    rows = []
    with tempfile.TemporaryDirectory() as place:
        paths = {"onnxruntime": Path(place) / "model.onnx", "tflite": Path(place) / "model.tflite"}
        build.write_onnx(decoder.dynamic(), paths["onnxruntime"])
        with paths["tflite"].open("wb") as file:
            nothing = build.round_decoder(
                decoder, decoder.dynamic(), with_arguments(None, {"weights": "float"}).quantize, None
            )
            build.tflite_content(build.static_models(decoder, [64]), nothing).write(file)
        for runtime, path in paths.items():
            opened = decoders.open_decoder({"runtime": runtime}, facts, path, 1)
            whole = opened.prefill(prompt).copy()
            token, found = int(whole[-1].argmax()), []
            while len(found) < _WRITTEN:
                found.append(token)
                token = int(opened.step(token).argmax())
            same = next((i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]), _WRITTEN)
            opened.reset()
            parts, start = [], 0
            for count in _PIECES:
                parts.append(opened.prefill(prompt[start : start + count]).copy())
                start += count
            apart = float(np.abs(np.concatenate(parts) - whole).max() / np.abs(whole).max())
            rows.append([runtime, f"{same} of {_WRITTEN}", f"{apart:.1e}"])
    print(machine("torch", "transformers", "onnxruntime", "ai-edge-litert"), "\n")
    print(table(["float file", "greedy tokens as torch's", "prompt in 4 pieces, relative difference"], rows))


def make(checkpoint: Path, train: Path, test: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    data = {"calibration": str(train.resolve()), "evaluation": str(test.resolve())}
    for name, keys in ROWS.items():
        folder = out / name.replace(" ", "-")
        if not (folder / "manifest.json").is_file():
            recipe = with_arguments(None, {"source": str(checkpoint), "windows": 64, **data, **keys})
            language.make(recipe, checkpoint, base=Path(), out=folder, progress=lambda stage, done, total: None)
            print(f"made {folder}", flush=True)


def figures(out: Path, runs: int) -> None:
    rows = []
    for name in ROWS:
        folder = out / name.replace(" ", "-")
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        names = [artifact["name"] for artifact in manifest["artifacts"]]
        wishes = {"names": names, "threads": 1, "runs": runs}
        speeds = speed(folder, wishes, lambda body: None)
        goods = quality(folder, wishes, lambda body: None)["artifacts"]
        sizes = {artifact["name"]: artifact["bytes"] for artifact in manifest["artifacts"]}
        base, rate = goods["float"], speeds["float"]["decode_rate"]
        for artifact in names:
            if artifact == "float" and rows:
                continue
            good, fast = goods[artifact], speeds[artifact]
            loss = np.log(good["perplexity"] / base["perplexity"])
            rows.append(
                [
                    "float" if artifact == "float" else name, artifact if artifact != "float" else "onnxruntime",
                    sizes[artifact], f"{sizes[artifact] / sizes['float']:.3f}", f"{good['perplexity']:.3f}",
                    f"{100 * (good['perplexity'] / base['perplexity'] - 1):.2f}", f"{loss:.4f}",
                    f"{good['divergence']:.4f}", f"{100 * good['agreement']:.1f}", f"{fast['first_token_ms']:.1f}",
                    f"{fast['decode_rate']:.0f}", f"{fast['decode_rate'] / rate:.2f}",
                ]
            )  # fmt: skip
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    head = ["weights", "runtime", "bytes", "of float", "perplexity", "+ %", "loss, nats above float", "divergence"]
    print(table([*head, "top-1 as float %", "first token ms", "tokens/s", "of float's"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("text")
    command.add_argument("checkpoint", type=Path)
    command = commands.add_parser("make")
    for name in ("checkpoint", "train", "test"):
        command.add_argument(name, type=Path)
    command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("figures")
    command.add_argument("out", type=Path)
    command.add_argument("--runs", type=int, default=7)
    options = vars(parser.parse_args())
    {"text": text, "make": make, "figures": figures}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
