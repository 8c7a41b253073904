"""Language models of the sample's family: torch's text, bits and rounders, speed, on both runtimes, one thread.

python -m benchmarks.language text CHECKPOINT...                  # greedy text and chunked prompts against torch
python -m benchmarks.language make CHECKPOINT TRAIN TEST --out DIR    # one bundle for each row; those that exist stay
python -m benchmarks.language figures DIR                         # quality, size and speed of all of them, in turn

sample_apps/shakespeare/train.py makes the checkpoints and both texts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from benchmarks.measure import machine, table
from exporter import language
from exporter.lm import build
from exporter.lm.last import keep_last
from exporter.lm.source import open_decoder
from exporter.recipe import with_arguments
from exporter.types import Plan, Rounded
from targets.agent import decoders
from targets.agent.language import quality

# name -> keys of the recipe; groups of 32 inputs below 8 bits
ROWS: dict[str, dict[str, Any]] = {
    "float": {"weights": "float"},
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
Row = tuple[str, str]  # of ROWS, and a runtime
_WRITTEN, _PROMPT = 200, 32
_PIECES = (1, 7, 16, 8)


def text(checkpoints: list[Path]) -> None:
    """Greedy tokens that are torch's, and how far logits of a prompt read in pieces are from those read at once."""
    print(machine("torch", "transformers", "onnxruntime", "ai-edge-litert"), "\n")
    head = ["model", "float file", "greedy tokens as torch's", "prompt in 4 pieces, relative difference"]
    print(table(head, [row for checkpoint in checkpoints for row in _text(checkpoint)]))


def _text(checkpoint: Path) -> list[list[str]]:
    """Greedy text of torch and of both files in float; a prompt in pieces against the whole."""
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
        build.write_onnx(keep_last(decoder.dynamic()), paths["onnxruntime"])
        with paths["tflite"].open("wb") as file:
            build.tflite_content(build.static_models(decoder, [64]), Rounded(Plan({}), {})).write(file)
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
            rows.append([checkpoint.name, runtime, f"{same} of {_WRITTEN}", f"{apart:.1e}"])
    return rows


def make(checkpoint: Path, train: Path, test: Path, out: Path) -> None:
    """A bundle for each row, where it is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    data = {"calibration": str(train.resolve()), "evaluation": str(test.resolve())}
    for name, keys in ROWS.items():
        folder = out / name.replace(" ", "-")
        if not (folder / "manifest.json").is_file():
            recipe = with_arguments(None, {"source": str(checkpoint), "windows": 64, **data, **keys})
            language.make(recipe, checkpoint, base=Path(), out=folder, progress=lambda stage, done, total: None)
            print(f"made {folder}", flush=True)


def speed(opened: dict[Row, Any], vocabulary: int, runs: int) -> dict[Row, tuple[float, float]]:
    """All in turn: ms to the first token of a prompt of 64, and tokens a second after it; medians.

    Seconds of the processor, one thread: on a shared machine the clock on the wall measures the neighbours.
    """
    clock = time.process_time
    prompt = np.random.default_rng(0).integers(1, vocabulary, 64)
    times: dict[Row, list[tuple[float, float]]] = {row: [] for row in opened}
    for _ in range(runs + 1):
        for row, decoder in opened.items():
            decoder.reset()
            start = clock()
            token = int(decoder.read(prompt).argmax())
            first = clock()
            for _ in range(64):
                token = int(decoder.step(token).argmax())
            times[row].append((1e3 * (first - start), 64 / (clock() - first)))
    return {row: tuple(np.median(pairs[1:], axis=0)) for row, pairs in times.items()}  # type: ignore[misc]


def figures(out: Path, runs: int) -> None:
    """Of each file: bytes, perplexity, divergence from float in nats, ms to the first token, tokens a second."""
    opened: dict[Row, Any] = {}
    goods, sizes = {}, {}
    facts: dict[str, Any] = {}
    for name in ROWS:
        folder = out / name.replace(" ", "-")
        if not (folder / "manifest.json").is_file():
            continue
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        facts = manifest["language_model"]
        found = quality(folder, {"names": [a["name"] for a in manifest["artifacts"]], "threads": 1}, lambda body: None)
        for artifact in manifest["artifacts"]:
            row = (name, artifact["name"])
            if artifact["role"] == "candidate":
                opened[row] = decoders.open_decoder(artifact, facts, folder / artifact["path"], 1)
            goods[row], sizes[row] = found["artifacts"][artifact["name"]], artifact["bytes"]
    speeds = speed(opened, facts["vocabulary"], runs)
    lines = []
    for (name, runtime), (first, rate) in speeds.items():
        good, base, size = goods[name, runtime], goods[name, "float"], sizes[name, runtime]
        line = [name, runtime, size, f"{size / sizes[name, 'float']:.3f}", f"{good['perplexity']:.3f}"]
        line += [f"{100 * (good['perplexity'] / base['perplexity'] - 1):.2f}"]
        line += [f"{np.log(good['perplexity'] / base['perplexity']):.4f}", f"{good['divergence']:.4f}"]
        line += [f"{100 * good['agreement']:.1f}", f"{first:.1f}", f"{rate:.0f}"]
        lines.append([*line, f"{rate / speeds['float', runtime][1]:.2f}"])
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    head = ["weights", "runtime", "bytes", "of float", "perplexity", "+ %", "loss, nats above float", "divergence"]
    print(table([*head, "top-1 as float %", "first token ms", "tokens/s", "of float's"], lines))


def main() -> None:
    """text, make or figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("text")
    command.add_argument("checkpoints", type=Path, nargs="+")
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
