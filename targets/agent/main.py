"""python check.pyz [BUNDLE]: verify the bundle, measure every artifact here, judge the gates."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from typing import Any

from .judge import judge
from .manifest import BrokenBundle, verify

__all__ = ["main"]


def main() -> int:
    """Exit code 0 when the gates hold, 1 when one fails, 2 when the bundle is broken."""
    parser = argparse.ArgumentParser(description="Check a kbit bundle on this machine.")
    parser.add_argument(
        "bundle", nargs="?", default=_own_folder(), help="folder of the bundle (default: beside this file)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result there (default: stdout)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=0, help="evaluation samples at most")
    parser.add_argument("--progress", action="store_true", help="one JSON line a step on stderr")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return _work(options)
    try:
        manifest = verify(options.bundle)
    except BrokenBundle as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    result = _check(manifest, options)
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        with open(options.json + ".partial", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(options.json + ".partial", options.json)
    else:
        sys.stdout.write(text)
    return 0 if result["passed"] else 1


def _own_folder() -> str:
    return os.path.dirname(_archive()) or "."


def _archive() -> str:
    """The check.pyz that this runs from."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _work(options: Any) -> int:
    from . import worker

    if options.worker == "latency":
        body = worker.latency(options.bundle, options.out.split(","), options.threads)
    else:
        body = worker.measure(options.bundle, options.worker, options.out, options.threads, options.samples)
    print(json.dumps({"result": body}), flush=True)
    return 0


def _child(options: Any, worker: Any, out: Any) -> Any:
    """(result, error): a worker that raises or dies is one line, not the end of the check."""
    command = [sys.executable, _archive(), options.bundle, "--worker", worker, "--out", out]
    command += ["--threads", str(options.threads), "--samples", str(options.samples)]
    with tempfile.TemporaryFile() as errors:
        result = None
        streams: Any = {"stdout": subprocess.PIPE, "stderr": errors, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, **streams) as process:
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                if "result" in message:
                    result = message["result"]
                elif options.progress:
                    print(json.dumps(message), file=sys.stderr, flush=True)
            code = process.wait()
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    if result is not None and code == 0:
        return result, None
    if code < 0:
        return None, "the process was killed by signal %d (9: out of memory, 11: crash)" % -code
    return None, lines[-1] if lines else "the process ended with code %d" % code


def _check(manifest: Any, options: Any) -> Any:
    from . import figures

    facts: Any = {}
    outputs: Any = {}
    with tempfile.TemporaryDirectory() as scratch:
        for artifact in manifest["artifacts"]:
            name = artifact["name"]
            path = os.path.join(scratch, name + ".npz")
            body, error = _child(options, name, path)
            facts[name] = dict(body or {}, bytes=artifact["bytes"], errors=[] if error is None else [error])
            if error is None:
                outputs[name] = figures.load(path)
        running = [name for name in facts if not facts[name]["errors"]]
        if running:
            times, error = _child(options, "latency", ",".join(running))
            for name in running:
                if error is None:
                    facts[name]["latency_ms"] = figures.percentiles(times[name])
                else:
                    facts[name]["errors"].append("latency: " + error)
    figures.accuracy(manifest, options.bundle, facts, outputs)
    candidates = [a["name"] for a in manifest["artifacts"] if a["role"] == "candidate"]
    agreement = figures.agreement(manifest, [outputs.get(name) for name in candidates])
    reasons = judge(manifest.get("gates") or {}, {n: facts[n] for n in candidates}, agreement)
    return {
        "passed": not reasons,
        "reasons": reasons,
        "artifacts": facts,
        "agreement": agreement,
        "evaluation_samples": figures.count(outputs),
        "device": _device(),
    }


def _device() -> Any:
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
        names = {key.strip().lower(): value.strip() for key, value in facts.items()}
        cpu = names.get("model name") or names.get("hardware") or names.get("model") or cpu
    except OSError:
        pass
    return {
        "machine": platform.machine(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
    }
