"""A headless Chromium of this machine that opens the page, for who has no phone at hand, and for CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from types import TracebackType

from targets.types import TargetError

__all__ = ["Chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-pings",
    "--window-size=412,915",
)


class Chromium:
    """``with Chromium(link):`` it runs meanwhile, in a profile of its own that is removed afterwards."""

    def __init__(self, link: str, spki: str = "") -> None:
        """spki: of a self-signed certificate that it shall trust. Raises TargetError when there is no Chromium."""
        program = next((found for found in map(shutil.which, _NAMES) if found), None)
        if program is None:
            raise TargetError("no Chromium on this machine", "sudo apt install chromium, or open the page on a phone")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # it may still be writing when it ends
        flags = [*_FLAGS, f"--user-data-dir={self._profile.name}"]
        if spki:
            flags.append(f"--ignore-certificate-errors-spki-list={spki}")
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to start as root with one
        self._command = [program, *flags, link]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Chromium:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command, **streams)  # type: ignore[call-overload]
        return self

    @property
    def ended(self) -> int | None:
        """Its exit code when it is no longer there."""
        return self._process.poll() if self._process else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._profile.cleanup()
