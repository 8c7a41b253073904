"""What one browser sent: outputs block by block, times and errors; and the verdict over them."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from targets.agent.manifest import file_hash
from targets.judging import judged
from targets.transports.browser import runtimes
from targets.transports.browser.work import Work
from targets.types import Progress, Target

__all__ = ["Refused", "Visit"]

_MOST_TIMES = 1000
_MOST_TEXT = 300
_BROWSER = Target("browser", "a browser", "browser")
_ACCELERATORS = {"wasm": "WebAssembly", "webgpu": "WebGPU"}
_PACKAGES = {"onnxruntime": "onnxruntime-web", "tflite": "@litertjs/core"}


class Refused(Exception):
    """What came is not what the page sends; the server answers 400 with this line."""


class Visit:
    """One browser's run; a run that starts again (the page was loaded again) forgets the earlier one."""

    def __init__(self, work: Work, progress: Progress, done: Callable[[dict[str, Any]], None]) -> None:
        """done: called with the verdict, once the browser has it."""
        self.work, self._progress, self._done = work, progress, done
        self.over = threading.Event()
        self._result: dict[str, Any] = {}
        self.heard = time.monotonic()
        self._lock = threading.Lock()
        self._blocks: dict[tuple[str, str], dict[int, bytes]] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def begin(self) -> dict[str, Any]:
        """The page asks for its job."""
        with self._lock:
            self._blocks.clear()
            self._facts.clear()
        self._progress("a browser is at work", 0, None)
        return self.work.job()

    def expected_bytes(self, artifact: str, kind: str, start: int, stop: int) -> int | None:
        """Length of the body with these outputs; None when the page sends no such block."""
        forms = self.work.outputs.get(artifact)
        if forms is None or not (0 <= start < stop <= self.work.samples.get(kind, 0)) or start % self.work.block:
            return None
        return (stop - start) * sum(form.row_bytes for form in forms) if stop - start <= self.work.block else None

    def take_block(self, artifact: str, kind: str, start: int, stop: int, body: bytes) -> None:
        with self._lock:
            self._blocks.setdefault((artifact, kind), {})[start] = body
        if kind == "evaluation":
            self._progress(f"check {artifact}", stop, self.work.samples[kind])

    def take_facts(self, artifact: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Times and errors of one artifact -> its figures so far, for the page to show. Raises Refused."""
        from targets.agent import figures

        entry = self.work.artifacts[artifact]
        facts: dict[str, Any] = {"bytes": entry["bytes"], "errors": _texts(body.get("errors", []))}
        for key in ("ready_ms", "first_ms", "timer_step_ms"):
            if body.get(key) is not None:
                facts[key] = _number(body[key])
        times = body.get("times_ms") or []
        if not isinstance(times, list) or len(times) > _MOST_TIMES:
            raise Refused(f"times_ms is not a list of at most {_MOST_TIMES} numbers")
        if times:
            facts["browser_latency_ms"] = figures.percentiles([_number(t) for t in times])
        facts["runtime_package"] = _PACKAGES.get(entry["runtime"], entry["runtime"])
        facts["runtime_version"] = runtimes.versions().get(entry["runtime"], "unknown")
        facts["variant"] = _text(body.get("variant", ""))
        with self._lock:
            self._facts[artifact] = facts
            if not facts["errors"] and self._arrays(artifact) is None:
                facts["errors"] = ["the browser did not send all outputs"]
        found: dict[str, Any] = self._figures(wait=False)[0][artifact]
        (found.get("host") or {}).pop("beyond", None)
        return found

    def finish(self, device: Mapping[str, Any]) -> dict[str, Any]:
        """The verdict, as check.json has it (docs/bundle-format.md). Raises Refused."""
        from targets.agent import figures

        told = _device(device)
        words = (told.get("browser"), told.get("platform"), _ACCELERATORS[self.work.settings.accelerator])
        told["cpu"] = ", ".join(str(word) for word in words if word)  # what other devices call it
        facts, outputs = self._figures()
        manifest = self.work.manifest
        for name in self.work.artifacts.keys() - facts.keys():
            facts[name] = {"bytes": self.work.artifacts[name]["bytes"], "errors": ["the browser did not run it"]}
        for name, artifact in self.work.artifacts.items():
            facts[name]["sha256"] = artifact["sha256"]
        candidates = [a["name"] for a in manifest["artifacts"] if a["role"] == "candidate"]
        notes = []
        if self.work.host is not None and self.work.host.problem:
            notes.append(f"not compared with the host: {self.work.host.problem}")
        for name, found in facts.items():
            if (found.get("host") or {}).pop("beyond", None):
                notes.append(f"{name}: outputs are further from the host's than rounding explains")
        if told.get("hidden"):
            notes.append("the page was in the background for a while: browser latency is too high")
        self._result = {
            "artifacts": {name: facts[name] for name in self.work.artifacts},
            "agreement": figures.agreement(manifest, [outputs.get(name) for name in candidates]),
            "evaluation_samples": figures.count(outputs),
            "conditions": {"notes": notes},
            "manifest_sha256": file_hash(self.work.folder / "manifest.json"),
            "device": told,
        }
        return judged(self.work.folder, manifest, _BROWSER, self._result)

    def told(self, verdict: dict[str, Any]) -> None:
        """The browser has it."""
        self.over.set()
        self._done(verdict)

    def result(self) -> dict[str, Any]:
        """What was measured, not judged yet."""
        return self._result

    def save_outputs(self, file: BinaryIO) -> None:
        """All outputs as .npz: "ARTIFACT/golden.OUTPUT" and "ARTIFACT/evaluation.OUTPUT"."""
        from targets.agent import figures

        outputs = self._figures()[1]
        figures.save(file, {f"{name}/{key}": array for name, found in outputs.items() for key, array in found.items()})

    def _figures(self, *, wait: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
        """Facts with metric, drop, golden and host in them, and the arrays behind them."""
        from targets.agent import comparing, figures

        with self._lock:
            facts = {name: {**found, "errors": list(found["errors"])} for name, found in self._facts.items()}
            arrays = {name: self._arrays(name) for name, found in facts.items() if not found["errors"]}
        outputs = {name: found for name, found in arrays.items() if found is not None}
        figures.accuracy(self.work.manifest, self.work.folder, facts, outputs)
        host = self.work.host
        here: Mapping[str, Any] = {} if host is None else host.wait() if wait else host.so_far()
        there = {f"{name}/{key}": array for name, found in outputs.items() for key, array in found.items()}
        for name, difference in comparing.differences(self.work.manifest, there, here).items():
            facts[name]["host"] = difference
        return facts, outputs

    def _arrays(self, artifact: str) -> dict[str, Any] | None:
        """Outputs by "golden.OUTPUT" and "evaluation.OUTPUT"; None while blocks are missing."""
        from targets.agent import figures

        found = {}
        forms = self.work.outputs[artifact]
        for kind, count in self.work.samples.items():
            blocks = self._blocks.get((artifact, kind), {})
            starts = range(0, count, self.work.block)
            if blocks.keys() != set(starts):
                return None
            parts: dict[str, list[bytes]] = {form.name: [] for form in forms}
            for start in starts:
                many, place = min(self.work.block, count - start), 0
                for form in forms:
                    parts[form.name].append(blocks[start][place : place + many * form.row_bytes])
                    place += many * form.row_bytes
            for form in forms if count else ():
                shape = (count, *form.shape)
                found[f"{kind}.{form.name}"] = figures.from_bytes(b"".join(parts[form.name]), form.dtype, shape)
        return found


def _device(body: Mapping[str, Any]) -> dict[str, Any]:
    """Plain facts of the browser: short texts, numbers, yes or no."""
    if len(body) > 20:
        raise Refused("too many facts of the device")
    found: dict[str, Any] = {}
    for key, value in body.items():
        if value is None or isinstance(value, bool):
            found[_text(key)] = value
        else:
            found[_text(key)] = _text(value) if isinstance(value, str) else _number(value)
    return found


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or len(values) > 20:
        raise Refused("errors is not a short list of texts")
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    """One short printable line: it ends up in a terminal."""
    if not isinstance(value, str):
        raise Refused(f"a text was expected, not {json.dumps(value)[:40]}")
    return "".join(c if c.isprintable() else " " for c in value)[:_MOST_TEXT].strip()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Refused(f"a number was expected, not {json.dumps(value)[:40]}")
    return value
