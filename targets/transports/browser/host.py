"""What this machine gives for the same files and samples: what a browser's outputs are compared with."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.transports.local import open_local
from targets.types import Job, Target, TargetError

__all__ = ["HostOutputs"]

_TIMES = 10


class HostOutputs:
    """Computed in a thread of its own while the browser still loads."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], samples: int, limit_s: float) -> None:
        """limit_s: what a browser may be silent for; this machine gets some times that for everything."""
        names = [entry["path"] for entry in (*manifest["artifacts"], *manifest["files"])]
        self._files = {name: folder / name for name in ("manifest.json", *names)}
        self._samples, self._limit_s = samples, limit_s
        self._found: Mapping[str, Any] = {}
        self.problem = ""
        self._thread = threading.Thread(target=self._compute, daemon=True)
        self._thread.start()

    def wait(self) -> Mapping[str, Any]:
        """ "ARTIFACT/KIND.OUTPUT" -> array; empty when this machine cannot run them (then ``problem`` says why)."""
        self._thread.join(self._limit_s)
        if self._thread.is_alive():
            self.problem = "it was not done before the browser"
        return self._found

    def so_far(self) -> Mapping[str, Any]:
        """The same without waiting: empty until all is done."""
        return self._found

    def _compute(self) -> None:
        from targets.agent import figures

        try:
            with open_local(Target("host", "this machine", "local")) as device:
                device.push(self._files, lambda step, done, total: None)
                options = {"samples": self._samples, "latency": False, "outputs": True}
                result = device.run(Job("check", options, _TIMES * self._limit_s), lambda step, done, total: None)
                errors = [(name, facts["errors"]) for name, facts in result["artifacts"].items() if facts["errors"]]
                self.problem = "; ".join(f"{name}: {', '.join(found)}" for name, found in errors)
                self._found = figures.load(io.BytesIO(device.pull("outputs.npz")))
        except TargetError as error:
            self.problem = str(error)
