"""What `make demo` runs: train, export for two runtimes, check, report. Uses kbit as anyone would: by its command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"


def run(*command: str) -> None:
    """Show the command, run it in this folder, and stop the demo with its exit code when it fails."""
    print(f"\n$ {' '.join(command)}", flush=True)
    beside = Path(sys.executable).parent  # the environment of this Python, whether or not it is activated
    program = shutil.which(command[0], path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        sys.exit(f"{command[0]} is not installed beside {sys.executable}; run `make demo`, which installs it")
    done = subprocess.run([program, *command[1:]], cwd=HERE, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    shutil.rmtree(OUT / "bundle", ignore_errors=True)  # of an earlier demo: export wants a new folder
    run("python", "train.py")
    run("kbit", "export", "recipe.toml", "--out", "out/bundle")
    run("kbit", "check", "out/bundle", "--on", "host")
    run("kbit", "report", "out/bundle")
    print(f"\nThe bundle is {OUT / 'bundle'}; open its report.html in a browser.")


if __name__ == "__main__":
    main()
