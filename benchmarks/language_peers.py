"""A decoder of 27 million parameters: our files against onnxruntime-genai, litert-torch and llama.cpp, one thread.

python -m benchmarks.language_peers make DIR       # checkpoint, our bundles, their files; those that exist stay
python -m benchmarks.language_peers figures DIR    # tokens a second of all of them, in turn, a process each

Weights are random: this is about speed. The peers have environments of their own (benchmarks/peers.py).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import ROOT, data, machine, table

_CONTEXT = 512
# row -> folder of our bundle or their file under DIR, kind (benchmarks.language_contestants)
FLOAT = {
    "kbit, ONNX Runtime": ("int4", "kbit-float"),
    "kbit file, onnxruntime-genai": ("ours-in-genai-float", "genai"),
    "onnxruntime-genai": ("genai-fp32", "genai"),
    "kbit, TFLite": ("float", "kbit-tflite"),
    "litert-torch": ("litert-float/model.tflite", "litert-torch"),
    "llama.cpp F32": ("f32.gguf", "llama.cpp"),
}
INT4 = {
    "kbit, ONNX Runtime": ("int4", "kbit-onnxruntime"),
    "kbit file, onnxruntime-genai": ("int4", "genai"),
    "onnxruntime-genai": ("genai-int4", "genai"),
    "kbit, TFLite": ("int4", "kbit-tflite"),
    "litert-torch": ("litert-dynamic_wi4b32_afp32/model_quantized.tflite", "litert-torch"),
    "llama.cpp Q4_0": ("q4_0.gguf", "llama.cpp"),
}
INT8 = {
    "kbit, ONNX Runtime": ("int8", "kbit-onnxruntime"),
    "onnxruntime-genai": ("genai-int8", "genai"),
    "kbit, TFLite": ("int8", "kbit-tflite"),
    "litert-torch": ("litert-dynamic_wi8_afp32/model_quantized.tflite", "litert-torch"),
    "llama.cpp Q8_0": ("q8_0.gguf", "llama.cpp"),
}


def checkpoint(folder: Path) -> None:
    """A Llama of 27 million parameters with random weights, as a Hugging Face folder."""
    import torch

    from sample_apps.shakespeare import train as sample

    torch.manual_seed(0)
    known, _ = sample.split(data("tinyshakespeare.txt").read_text("utf-8"))
    size = sample.Size(512, 8, 8, 2, 1408, 0.0)
    sample.save(sample.build(size, 4096, context=_CONTEXT, tied=False), sample.train_tokenizer(known, 4096), folder)


def ours(folder: Path, source: Path, weights: str) -> None:
    """A bundle of it with weights of this width."""
    from exporter import language
    from exporter.recipe import with_arguments

    keys = {"weights": weights, "rounder": "nearest"} if weights != "float" else {"weights": weights}
    recipe = with_arguments(None, {"source": str(source), **keys})
    language.make(recipe, source, base=Path(), out=folder, progress=lambda stage, done, total: None)


def in_genai(folder: Path, bundle: Path) -> None:
    """The float file of a bundle under the name that genai_config.json has."""
    folder.mkdir()
    for name in ("genai_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundle / name, folder)
    shutil.copy(bundle / "float.onnx", folder / "model.onnx")


def genai(folder: Path, source: Path, precision: str) -> None:
    """A folder by onnxruntime-genai's own builder at this precision, set to one thread."""
    words = [
        "-m",
        "onnxruntime_genai.models.builder",
        "-i",
        str(source),
        "-o",
        str(folder),
        "-p",
        precision,
        "-e",
        "cpu",
    ]
    words += ["-c", str(folder.parent / "cache"), "--extra_options", "hf_token=false"]
    subprocess.run([str(peers.genai()), *words], check=True, stdout=subprocess.DEVNULL)
    path = folder / "genai_config.json"
    body = json.loads(path.read_text("utf-8"))
    body["model"]["decoder"]["session_options"].update(intra_op_num_threads=1, inter_op_num_threads=1)
    path.write_text(json.dumps(body, indent=1), "utf-8")


def litert(folder: Path, source: Path, recipe: str) -> None:
    """A TFLite file by litert-torch's own export, quantized by one of its recipes."""
    wanted = None if recipe == "float" else recipe
    code = (
        "from litert_torch.generative.export_hf import export\n"
        f"export.export({str(source)!r}, {str(folder)!r}, prefill_lengths=[64], cache_length={_CONTEXT}, "
        f"quantization_recipe={wanted!r}, keep_temporary_files=True, bundle_litert_lm=False)\n"
    )
    subprocess.run([str(peers.litert()), "-c", code], check=True, stdout=subprocess.DEVNULL)


def make(out: Path) -> None:
    """Every file that the tables need, where it is not there yet; what a peer cannot make is said and left out."""
    out.mkdir(parents=True, exist_ok=True)
    source = (out / "checkpoint").resolve()
    steps = {"checkpoint": lambda: checkpoint(source)}
    for weights in ("float", "int8", "int4"):
        steps[weights] = lambda w=weights: ours(out / w, source, w)  # type: ignore[misc]
    steps["ours-in-genai-float"] = lambda: in_genai(out / "ours-in-genai-float", out / "int4")
    for precision in ("fp32", "int8", "int4"):
        steps[f"genai-{precision}"] = lambda p=precision: genai(out / f"genai-{p}", source, p)  # type: ignore[misc]
    for recipe in ("float", "dynamic_wi8_afp32", "dynamic_wi4b32_afp32"):
        steps[f"litert-{recipe}"] = lambda r=recipe: litert(out / f"litert-{r}", source, r)  # type: ignore[misc]
    for kind in ("F32", "Q8_0", "Q4_0"):
        words = ["-m", "benchmarks.language_gguf", str(source), str(out / f"{kind.lower()}.gguf"), kind]
        steps[f"{kind.lower()}.gguf"] = lambda w=words: subprocess.run(  # type: ignore[misc]
            [str(peers.llama()), *w], cwd=ROOT, check=True
        )
    for name, step in steps.items():
        if not (out / name).exists():
            try:
                step()
                print(f"made {name}", flush=True)
            except (subprocess.CalledProcessError, OSError) as error:
                print(f"NOT made {name}: {error}", flush=True)


def measured(kind: str, path: Path) -> dict[str, float] | None:
    """One run of a file in a process of its own: tokens a second, ms to the first; None where it fails."""
    python = {"genai": peers.genai, "llama.cpp": peers.llama}.get(kind, lambda: Path(sys.executable))()
    command = [str(python), "-m", "benchmarks.language_contestants", kind, str(path.resolve())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-600:], file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def bytes_of(path: Path, kind: str) -> int:
    """Size of what a row runs, weights beside it included."""
    if not kind.startswith("kbit"):
        return sum(file.stat().st_size for file in (path.glob("model.onnx*") if path.is_dir() else [path]))
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    name = kind.removeprefix("kbit-")
    return int(next(a["bytes"] for a in manifest["artifacts"] if a["name"] == name))


def figures(out: Path, rounds: int) -> None:
    """For each width: bytes, tokens a second and ms to the first token of each file, medians over the rounds."""
    print(machine("onnxruntime", "ai-edge-litert"), "\n", flush=True)
    for title, rows in (("float", FLOAT), ("8 bits", INT8), ("4 bits, blocks of 32", INT4)):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
        for _ in range(rounds):
            for name, (path, kind) in rows.items():
                one = measured(kind, out / path)
                if one is not None:
                    found[name].append(one)
        best = max((statistics.median(r["rate"] for r in each) for each in found.values() if each), default=1.0)
        lines = []
        for name, each in found.items():
            path, kind = rows[name]
            if not each:
                lines.append([name, "", "did not run", "", ""])
                continue
            rate = statistics.median(r["rate"] for r in each)
            first = statistics.median(r["first_ms"] for r in each)
            lines.append([name, bytes_of(out / path, kind), f"{rate:.0f}", f"{rate / best:.2f}", f"{first:.1f}"])
        print(
            table([title, "bytes", "tokens/s", "of the best", "first token of a prompt of 64, ms"], lines),
            "\n",
            flush=True,
        )


def main() -> None:
    """make or figures."""
    command, out, *rest = sys.argv[1:]
    if command == "make":
        make(Path(out))
    else:
        figures(Path(out), int(rest[0]) if rest else 3)


if __name__ == "__main__":
    main()
