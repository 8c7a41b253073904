"""Time to the first token with the head at every position of the prompt, and at the last one only.

python -m benchmarks.language_prompt BUNDLE...      # of language models; every artifact of each

A prompt of 64, one thread, seconds of the processor, the two in turn, the median of RUNS.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import machine, table
from targets.agent.decoders import open_decoder

_PROMPT, _RUNS = 64, 9


def measured(folder: Path) -> list[list[str]]:
    """Of each artifact: ms of the processor to the first token with the head everywhere, and at the last position."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    language = manifest["language_model"]
    prompt = np.random.default_rng(0).integers(0, language["vocabulary"], _PROMPT)
    rows = []
    for artifact in manifest["artifacts"]:
        decoder = open_decoder(artifact, language, folder / artifact["path"], 1)
        times: dict[str, list[float]] = {"all": [], "last": []}
        for _ in range(_RUNS + 1):
            for name, found in times.items():
                decoder.reset()
                start = time.process_time()
                logits = decoder.read(prompt) if name == "last" else decoder.prefill(prompt)[-1]
                logits.argmax()
                found.append((time.process_time() - start) * 1e3)
        every, last = (statistics.median(found[1:]) for found in times.values())  # the first one warms up
        parameters = f"{language['parameters'] / 1e6:.0f} M, {language['vocabulary']}"
        rows.append([parameters, artifact["name"], f"{every:.1f}", f"{last:.1f}", f"{last / every:.2f}"])
    return rows


def main() -> None:
    """One table over all bundles."""
    rows = [row for folder in sys.argv[1:] for row in measured(Path(folder))]
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    print(table(["parameters, vocabulary", "file", "all positions, ms", "last only, ms", "of it"], rows))


if __name__ == "__main__":
    main()
