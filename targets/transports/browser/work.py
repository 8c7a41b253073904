"""What a browser is given to do: the job, raw samples as bytes, and the form of the outputs that it must send."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.agent.manifest import batch_of
from targets.transports.browser import runtimes
from targets.transports.browser.host import HostOutputs
from targets.types import TargetError

__all__ = ["Settings", "Work"]

_BLOCK_BYTES = 1 << 20  # of raw samples or outputs in one message
_MOST_BLOCK = 64
_MOST_OUTPUTS = 64 << 20  # bytes of one artifact's outputs that are held for one browser
_PICTURES = 400
_SETS = ("golden", "evaluation")
_BYTES = {"bool": 1, "float32": 4, "float64": 8} | {f"{s}int{b}": b // 8 for s in ("", "u") for b in (8, 16, 32, 64)}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose.

    samples      evaluation samples at most; 0: all
    threads      WebAssembly threads; more than one needs a page that the browser isolates (https, or loopback)
    accelerator  "wasm" or "webgpu"
    limit_s      the page stops an artifact that says nothing for so long
    timing_s     how long each artifact's time is measured, warm-up left out
    """

    samples: int = 0
    threads: int = 1
    accelerator: str = "wasm"
    limit_s: float = 120.0
    timing_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Form:
    """An array as it travels: its name, dtype, and the shape of one sample."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]


class Work:
    """One bundle, proved and read; the same for every browser that comes."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], settings: Settings) -> None:
        """Raises TargetError for arrays that no browser can take."""
        from targets.agent import figures

        self.folder, self.manifest, self.settings = folder, manifest, settings
        self.artifacts: dict[str, Mapping[str, Any]] = {a["name"]: a for a in manifest["artifacts"]}
        self._arrays = {kind: figures.load(folder / manifest[kind]["path"]) for kind in _SETS if manifest.get(kind)}
        golden = self._arrays["golden"]
        self.inputs = [_form(f"input.{spec['name']}", golden[f"input.{spec['name']}"]) for spec in manifest["inputs"]]
        labels = self._arrays.get("evaluation", {}).get("labels")
        self.labels = None if labels is None else _form("labels", labels)
        self.outputs = {name: [_output(name, spec, golden) for spec in manifest["outputs"]] for name in self.artifacts}
        most = max(sum(form.row_bytes for form in forms) for forms in self.outputs.values())
        self.samples = {kind: len(self._arrays[kind][self.inputs[0].name]) for kind in self._arrays}
        wanted = settings.samples or self.samples.get("evaluation", 0)
        self.samples["evaluation"] = min(self.samples.get("evaluation", 0), wanted, _MOST_OUTPUTS // max(1, most))
        largest = max(1, most, sum(form.row_bytes for form in self.inputs))
        self.host: HostOutputs | None = None
        self.block = max(1, min(_MOST_BLOCK, _BLOCK_BYTES // largest))  # samples in one message

    def job(self) -> dict[str, Any]:
        """What the page is told."""
        body = self.manifest
        forms = next(iter(self.outputs.values()))
        return {
            "name": body["name"],
            "inputs": body["inputs"],
            "outputs": [{**spec, "dtype": form.dtype} for spec, form in zip(body["outputs"], forms, strict=True)],
            "artifacts": body["artifacts"],
            "gates": body.get("gates") or {},
            "metric": (body.get("evaluation") or {}).get("metric"),
            "samples": self.samples,
            "raw": [_plain(form) for form in self.inputs],
            "labels": None if self.labels is None else _plain(self.labels),
            "batch": batch_of(body),
            "block": self.block,
            "pictures": _PICTURES,
            "threads": self.settings.threads,
            "accelerator": self.settings.accelerator,
            "limit_s": self.settings.limit_s,
            "timing_s": self.settings.timing_s,
            "versions": runtimes.versions(),
        }

    def sample_bytes(self, kind: str, start: int, stop: int) -> bytes | None:
        """Raw samples start to stop - 1, input after input, then their labels; None when there are none such."""
        from targets.agent import figures

        if not (0 <= start < stop <= self.samples.get(kind, 0) and stop - start <= self.block):
            return None
        forms = [*self.inputs, *([self.labels] if kind == "evaluation" and self.labels else [])]
        return b"".join(figures.to_bytes(self._arrays[kind][form.name][start:stop], form.dtype) for form in forms)


def _plain(form: Form) -> dict[str, Any]:
    return {"dtype": form.dtype, "shape": list(form.shape)}


def _form(name: str, array: Any) -> Form:
    """Of raw samples or labels. Raises TargetError for a dtype that JavaScript has no array for."""
    dtype = {"float16": "float32"}.get(array.dtype.name, array.dtype.name)
    if dtype not in _BYTES:
        raise TargetError(f"{name} is of dtype {dtype}, which no browser can take", "export it as numbers")
    return Form(name, dtype, tuple(array.shape[1:]))


def _output(artifact: str, spec: Mapping[str, Any], golden: Mapping[str, Any]) -> Form:
    """From the golden outputs, whose shapes are known in full."""
    expected = golden.get(f"expected.{artifact}.{spec['name']}")
    if expected is not None:
        return _form(spec["name"], expected)
    shape = tuple(spec["shape"][1:])
    if spec["dtype"] not in _BYTES or not all(isinstance(d, int) for d in shape):
        raise TargetError(f"output {spec['name']!r} of {artifact} has no fixed form", "export the bundle again")
    return Form(spec["name"], spec["dtype"], shape)
