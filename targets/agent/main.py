"""python check.pyz [BUNDLE]: verify the bundle, measure every artifact here, judge the gates."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from . import children
from .errors import explain
from .manifest import BrokenBundle, verify

__all__ = ["main"]


def main() -> int:
    """Exit code 0 when the gates hold, 1 when one fails, 2 when the bundle is broken."""
    parser = argparse.ArgumentParser(description="Check a kbit bundle on this machine.")
    beside = os.path.dirname(children.archive()) or "."
    parser.add_argument("bundle", nargs="?", default=beside, help="folder of the bundle (default: beside this file)")
    parser.add_argument("--json", metavar="FILE", help="write the result there (default: stdout)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=0, help="evaluation samples at most")
    parser.add_argument("--progress", action="store_true", help="one JSON line a step on stderr")
    parser.add_argument("--doctor", action="store_true", help="say what this machine has, and stop")
    for hidden in ("--serve", "--job", "--worker", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        from .serve import serve

        return serve(options.serve)
    if options.doctor:
        from . import facts

        print(json.dumps(facts.device(), indent=1))
        return 0
    try:
        if options.worker or options.job:
            children.guard()
        if options.worker:
            return _work(options)
        if options.job:
            return _job(options)
        return _check(options)
    except BrokenBundle as error:
        print("error: %s" % error, file=sys.stderr)
        return 2


def _check(options: Any) -> int:
    from . import checking

    def tell(message: Any) -> None:
        if options.progress:
            print(json.dumps(message), file=sys.stderr, flush=True)

    verify(options.bundle)
    wishes = {"threads": options.threads, "samples": options.samples}
    result = checking.check(options.bundle, wishes, options.out, tell)
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        return _write(options.json, text) or (0 if result["passed"] else 1)
    sys.stdout.write(text)
    return 0 if result["passed"] else 1


def _write(path: str, text: str) -> int:
    """A file that is complete or not there; 2 where it cannot be written."""
    try:
        with open(path + ".partial", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".partial", path)
    except OSError as error:
        if os.path.isfile(path + ".partial"):
            os.remove(path + ".partial")
        print("error: cannot write %s: %s" % (path, error.strerror), file=sys.stderr)
        return 2
    return 0


def _job(options: Any) -> int:
    """What serve starts: messages on stdout, the last one the result."""
    try:
        from . import jobs
    except ImportError as error:
        _say({"error": "%s is not installed for %s; pip install numpy onnxruntime" % (error.name, sys.executable)})
        return 1
    job = json.loads(options.job)
    try:
        body = jobs.JOBS[job["do"]](options.bundle, job["options"], options.out, _say)
    except (BrokenBundle, jobs.JobError) as error:
        _say({"error": str(error)})
        return 1
    _say({"result": body})
    return 0


def _work(options: Any) -> int:
    """One process of a job: its result is the last line."""
    from . import jobs

    wishes = json.loads(options.worker)
    try:
        body = jobs.WORKERS[wishes.pop("do")](options.bundle, wishes, _say)
    except Exception as error:  # runtimes raise their own C++ types; the parent wants one line
        _say({"error": explain(error)})
        return 1
    _say({"result": body})
    return 0


def _say(message: Any) -> None:
    print(json.dumps(message), flush=True)
