"""The channel to a device that misbehaves: it says too much, too late, or nothing at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from targets import Job, TargetError
from targets.agent import archive
from targets.agent.serve import HELLO
from targets.transports.connection import Connection, Way

START = f"""
import json, os, sys, time
left = {len(archive.build())}
while left:
    left -= len(os.read(0, left))
def say(**message):
    print(json.dumps(message), flush=True)
{{}}
say(hello={HELLO!r}, facts={{{{}}}})
"""


def quiet(step: str, done: int, total: int | None) -> None:
    pass


def device(tmp_path: Path, after: str, before: str = "", silence_s: float = 60.0) -> Connection:
    """A device that says hello and then runs ``after``."""
    program = tmp_path / "device.py"
    program.write_text(START.format(before) + after)
    return Connection(
        Way("board", [sys.executable, str(program)], lambda code, said: TargetError(f"ended: {code}"), None, silence_s)
    )


def test_a_heartbeat_behind_the_result_is_no_answer(tmp_path: Path) -> None:
    late = "input(); say(beat=2.0); say(result={'passed': True}); say(beat=4.0); input()\n"
    late += "print(json.dumps({'payload': 3})); print('abc', end='', flush=True); input()"
    with device(tmp_path, late) as board:
        assert board.run(Job("check", {}), quiet) == {"passed": True}
        assert board.pull("outputs.npz") == b"abc"


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with (
        pytest.raises(TargetError, match="board: check took longer than 1 s and was ended"),
        device(tmp_path, "input()\nfor i in range(100): say(beat=i); time.sleep(0.1)") as board,
    ):
        board.run(Job("check", {}, limit_s=1.0), quiet)


def test_a_device_that_falls_silent(tmp_path: Path) -> None:
    with (
        pytest.raises(TargetError, match="board: no word for 1 s, the connection counts as lost"),
        device(tmp_path, "input(); input()", silence_s=1.0) as board,
    ):
        board.run(Job("check", {}), quiet)


@pytest.mark.parametrize("before", ["print('Welcome to the board')", "print('{}')", "print('7')"])
def test_what_a_login_prints_is_passed_over(before: str, tmp_path: Path) -> None:
    with device(tmp_path, "input(); say(result={})", before) as board:
        assert board.run(Job("facts", {}), quiet) == {}


@pytest.mark.parametrize(
    "after", ["sys.exit(3)", "print('{\"payload\": 9}'); print('x', end='', flush=True); sys.exit(3)"]
)
def test_a_device_that_ends_in_the_middle(after: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="ended: 3"), device(tmp_path, after) as board:
        board.pull("outputs.npz")


def test_a_program_that_is_not_there() -> None:
    with (
        pytest.raises(TargetError, match="cannot start nonesuch-program"),
        Connection(Way("board", ["nonesuch-program"], lambda code, said: TargetError("never"))),
    ):
        pass
