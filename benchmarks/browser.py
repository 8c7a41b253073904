"""What a browser gives for the files of one bundle, against the host: the same answers? how much slower?

python -m benchmarks.browser BUNDLE [TARGET]

TARGET is browser:chromium (a headless Chromium here) unless another is named, as browser:lan for a phone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import targets
from benchmarks.measure import machine, table

__all__ = ["rows"]

HEAD = [
    "artifact",
    "host p50 ms",
    "browser p50 ms",
    "ratio of the fastest runs",
    "same top-1",
    "equal values",
    "samples",
]


def rows(host: Mapping[str, Any], browser: Mapping[str, Any]) -> list[list[str]]:
    """One an artifact."""
    found = []
    for name, facts in browser["artifacts"].items():
        here, there = host["artifacts"][name]["latency_ms"], facts.get("browser_latency_ms")
        if there is None:
            found.append([name, f"{here['p50']:.3f}", "; ".join(facts["errors"]), "", "", "", ""])
            continue
        same = facts["host"]
        ratio = f"{there['min'] / here['min']:.1f}"
        shares = [f"{100 * same['top1']:.2f} %", f"{100 * same['equal']:.2f} %", str(same["samples"])]
        found.append([name, f"{here['p50']:.3f}", f"{there['p50']:.3f}", ratio, *shares])
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, target = Path(sys.argv[1]), (sys.argv[2:] or ["browser:chromium"])[0]
    try:
        browser, host = targets.check(folder, target), targets.check(folder)
    except targets.TargetError as error:
        sys.exit(str(error))
    print(machine("onnxruntime", "ai-edge-litert"))
    print(f"{browser['device']['browser']}; onnxruntime-web and LiteRT.js as pinned; one thread\n")
    print(table(HEAD, rows(host, browser)))
