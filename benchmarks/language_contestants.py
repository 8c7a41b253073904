"""One language model in one runtime, in a process of its own: tokens a second. Runs in the peer's environment too.

python -m benchmarks.language_contestants KIND PATH [WRITTEN]      # prints one line of JSON

kinds   kbit-onnxruntime, kbit-tflite (a bundle), kbit-float (its float file), genai (a folder with genai_config.json),
        litert-torch (a .tflite), llama.cpp (a .gguf)
Each loads the model, writes once to warm up, then writes WRITTEN tokens behind a prompt of 64, one thread, greedy.
Seconds are those of the processor.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PROMPT = [int(t) for t in np.random.default_rng(0).integers(3, 500, 64)]
clock = time.process_time  # of one thread: a shared machine's clock on the wall measures the neighbours
Times = tuple[float, float]  # seconds to the first token, seconds for the rest


def kbit(folder: Path, artifact: str) -> Callable[[int], Times]:
    """An artifact of a bundle, by the decoder that travels with it."""
    from targets.agent.decoders import open_decoder

    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    entry = next(a for a in manifest["artifacts"] if a["name"] == artifact)
    decoder = open_decoder(entry, manifest["language_model"], folder / entry["path"], 1)

    def run(written: int) -> Times:
        decoder.reset()
        start = clock()
        token = int(decoder.read(PROMPT).argmax())
        first = clock()
        for _ in range(written):
            token = int(decoder.step(token).argmax())
        return first - start, clock() - first

    return run


def genai(folder: Path) -> Callable[[int], Times]:
    """A folder of onnxruntime-genai, greedy."""
    import onnxruntime_genai as og

    model = og.Model(str(folder))

    def run(written: int) -> Times:
        params = og.GeneratorParams(model)
        length = len(PROMPT) + written + 1
        params.set_search_options(do_sample=False, min_length=length, max_length=length)
        generator = og.Generator(model, params)
        start = clock()
        generator.append_tokens(PROMPT)
        generator.generate_next_token()
        first = clock()
        for _ in range(written):
            generator.generate_next_token()
        return first - start, clock() - first

    return run


def litert(path: Path) -> Callable[[int], Times]:
    """Signatures of litert-torch; the cache goes out of one buffer and into another, which then change places."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, Options

    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=CpuOptions(num_threads=1))
    model = CompiledModel.from_file(str(path), options=options)
    signatures = model.get_signature_list()
    prefill = next(key for key in signatures if key.startswith("prefill"))
    details = {key: model.get_input_tensor_details(key) for key in (prefill, "decode")}
    places = [name for name in signatures["decode"]["inputs"] if name.startswith("kv_cache")]
    caches = [{name: model.create_input_buffer_by_name("decode", name) for name in places} for _ in range(2)]
    small = {
        key: {name: model.create_input_buffer_by_name(key, name) for name in signatures[key]["inputs"]
              if name not in places}
        for key in (prefill, "decode")
    }  # fmt: skip
    logits = model.create_output_buffer_by_name("decode", "logits")
    vocabulary = int(np.prod(model.get_output_tensor_details("decode")["logits"]["shape"]))
    for side in caches:
        for name, buffer in side.items():
            buffer.write(np.zeros(details["decode"][name]["shape"], np.float32))

    def feed(key: str, tokens: list[int], start: int) -> None:
        for name, buffer in small[key].items():
            shape = tuple(int(d) for d in details[key][name]["shape"])
            if name == "tokens":
                padded = np.zeros(shape, np.int32)
                padded[0, : len(tokens)] = tokens
                buffer.write(padded)
            elif name == "input_pos":
                buffer.write(np.arange(start, start + shape[0], dtype=np.int32))
            else:  # mask [1, 1, queries, keys]
                rows = np.arange(start, start + shape[-2])[:, None]
                keys = np.arange(shape[-1])[None]
                buffer.write(np.where(keys <= rows, 0, np.float32(-1e9)).astype(np.float32).reshape(shape))

    def run(written: int) -> Times:
        into, out = caches
        start = clock()
        feed(prefill, PROMPT[:-1], 0)
        model.run_by_name(prefill, {**small[prefill], **into}, dict(out))
        into, out = out, into
        token, place = PROMPT[-1], len(PROMPT) - 1
        first = start
        for turn in range(written + 1):
            feed("decode", [token], place)
            model.run_by_name("decode", {**small["decode"], **into}, {"logits": logits, **out})
            into, out = out, into
            token, place = int(np.asarray(logits.read(vocabulary, np.float32)).argmax()), place + 1
            if not turn:
                first = clock()
        return first - start, clock() - first

    return run


def llama(path: Path) -> Callable[[int], Times]:
    """A GGUF file in llama.cpp, through its server: a request for one token, then one for all."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.cache_prompt = 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)

    def run(written: int) -> Times:
        wishes = {
            "prompt": PROMPT,
            "n_predict": written + 1,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        seconds = []
        for count in (1, written + 1):
            start = clock()
            server.handle_completions({**wishes, "n_predict": count})
            seconds.append(clock() - start)
        return seconds[0], seconds[1] - seconds[0]

    return run


KINDS: dict[str, Callable[[Path], Callable[[int], Times]]] = {
    "kbit-float": lambda path: kbit(path, "float"),
    "kbit-onnxruntime": lambda path: kbit(path, "onnxruntime"),
    "kbit-tflite": lambda path: kbit(path, "tflite"),
    "genai": genai,
    "litert-torch": litert,
    "llama.cpp": llama,
}


def main(kind: str, path: Path, written: int) -> None:
    """Print the least of three runs as JSON: ms to the first token of the prompt, tokens a second after it."""
    run = KINDS[kind](path)
    run(8)
    pairs = [run(written) for _ in range(3)]
    first, rest = (min(pair[i] for pair in pairs) for i in (0, 1))
    found: dict[str, Any] = {"kind": kind, "first_ms": 1e3 * first, "rate": written / rest}
    print("\n" + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 64)
