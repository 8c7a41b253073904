"""A verdict in the formats of continuous integration: JUnit XML, annotations and a summary for GitHub Actions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from targets.files import write_whole, writing

__all__ = ["junit", "summary", "workflow_commands", "write_summary"]


def junit(result: Mapping[str, Any], name: str) -> str:
    """One test case for each artifact and one for what concerns all; a reason is a failure of its case."""
    cases: dict[str, list[str]] = {artifact: [] for artifact in _artifacts(result)}
    cases["bundle"] = []
    for reason in result["reasons"]:
        owner, _, said = reason.partition(": ")
        cases[owner if owner in cases and said else "bundle"].append(reason)
    failed = sum(bool(reasons) for reasons in cases.values())
    suite = ElementTree.Element(
        "testsuite", name=f"kbit {name} on {result['target']}", tests=str(len(cases)), failures=str(failed), errors="0"
    )
    for artifact, reasons in cases.items():
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"kbit.{result['target']}", name=f"{name}.{artifact}"
        )
        for reason in reasons:
            ElementTree.SubElement(case, "failure", message=_plain(reason)).text = _plain(reason)
    if result.get("notes"):
        ElementTree.SubElement(suite, "system-out").text = "\n".join(map(_plain, result["notes"]))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def workflow_commands(result: Mapping[str, Any], name: str) -> Iterator[str]:
    """GitHub Actions' workflow commands (its documentation): errors for reasons, notices for notes."""
    title = _escaped(f"kbit: {name} on {result['target']}").replace(":", "%3A").replace(",", "%2C")
    for kind, lines in (("error", result["reasons"]), ("notice", result.get("notes", ()))):
        yield from (f"::{kind} title={title}::{_escaped(line)}" for line in lines)


def summary(result: Mapping[str, Any], name: str) -> str:
    """A markdown table for the job's page."""
    verdict = "passed" if result["passed"] else "NOT passed"
    lines = [
        f"### kbit: {name} on {result['target']}: {verdict}",
        "",
        "| artifact | metric | drop | p50 ms | instructions |",
    ]
    lines.append("| --- | --- | --- | --- | --- |")
    for artifact, facts in _artifacts(result).items():
        latency = (facts.get("latency_ms") or {}).get("p50", facts.get("p50"))
        cells = (facts.get("metric"), facts.get("drop"), latency, (facts.get("instructions") or {}).get("all"))
        lines.append(f"| {artifact} | " + " | ".join("" if c is None else f"{c:.6g}" for c in cells) + " |")
    lines += ["", *(f"- {reason}" for reason in result["reasons"])]
    return "\n".join(lines) + "\n"


def write_summary(result: Mapping[str, Any], name: str, junit_file: Path | None) -> list[str]:
    """Write what was asked for and what the environment wants; gives the lines to print on stderr."""
    if junit_file is not None:
        write_whole(junit_file, junit(result, name))
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        with writing(Path(page)), Path(page).open("a", encoding="utf-8") as file:
            file.write(summary(result, name))
    return list(workflow_commands(result, name))


def _artifacts(result: Mapping[str, Any]) -> dict[str, Any]:
    if "artifacts" in result:
        return dict(result["artifacts"])
    return dict(result["settings"][0]["artifacts"])


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _plain(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold."""
    return "".join(c if c in "\t\n" or ord(c) >= 32 else " " for c in text)
