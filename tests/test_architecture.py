"""The rules of the house that a machine can hold: who imports whom, how long a file is, what it is called."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("exporter", "targets", "sample_apps", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
MAX_LINES = 500
BANNED_FILES = {"utils", "util", "helpers", "helper", "common", "misc"}
BANNED_CLASSES = re.compile(r"(Manager|Handler|Helper|Utils?)$")

# A part may import the parts of lower rank, itself, and what ALSO adds.
RANKS = (
    ("errors",),
    ("types", "ceilings", "files", "units", "user_code"),
    ("grid", "graph", "inference", "recipe", "workers", "journal", "threads"),
    ("content", "control", "folding"),
    ("ops",),
    ("loading", "preparing", "data", "calibration", "rounding", "quantize", "emit", "reference", "bundle"),
    ("finetune",),
    ("reconstruction",),
    ("quantization", "worth"),
    ("subject",),
    ("linting", "explaining", "search", "lm"),
    ("law", "pruning"),
    ("training",),
    ("report", "inspection", "packing", "parity", "comparison"),
    ("conversion",),
    ("language",),
    ("pipeline",),
    ("probing", "sweeping", "tuning"),
    ("__init__",),
    ("cli",),
)
RANK = {part: rank for rank, parts in enumerate(RANKS) for part in parts}
ALSO = {"rounding": {"quantize"}, "loading": {"reference"}, "cli": {"__init__"}}

# package -> the files or folders that may import it; whatever is not named here is free
ONLY_IN = {
    "torch": (
        "exporter/loading",
        "exporter/finetune",
        "exporter/reconstruction",
        "exporter/lm",
        "sample_apps",
        "tests",
        "benchmarks",
    ),
    "transformers": ("exporter/lm", "sample_apps", "tests", "benchmarks"),
    "tokenizers": ("exporter/lm", "sample_apps", "tests", "benchmarks"),
    "ai_edge_litert.schema_py_generated": (
        "exporter/emit/_flatbuffer.py",
        "exporter/emit/_read.py",
        "exporter/emit/_slice.py",
        "tests",
    ),
    "subprocess": ("targets/transports", "targets/agent", "sample_apps", "tests", "benchmarks"),
    "msgspec": ("exporter/recipe", "tests"),
    "typer": ("exporter/cli", "tests"),
    "rich": ("exporter/cli",),
    "matplotlib": ("exporter/report", "sample_apps", "benchmarks"),
    "jinja2": ("exporter/report",),
}
AGENT_MAY = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow"}


def imports(path: Path) -> Iterator[str]:
    """Every module a file names in an import, ``from a import b`` as a.b too; those for type checking left out."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level and path.parent.name == "agent":
                continue  # the agent travels as a package of another name
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path: Path) -> str:
    """exporter/emit/ort.py -> emit, exporter/grid.py -> grid."""
    return path.relative_to(ROOT / "exporter").with_suffix("").parts[0]


def modules(folder: str) -> list[Path]:
    return [path for path in FILES if path.is_relative_to(ROOT / folder)]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules("exporter"), ids=name)
def test_imports_point_downwards(path: Path) -> None:
    own = part(path)
    assert own in RANK, f"{name(path)}: give {own!r} a rank in {Path(__file__).name}"
    for module in imports(path):
        words = module.split(".")
        if words[0] != "exporter":
            continue
        other = words[1] if len(words) > 1 and words[1] in RANK else "__init__"
        allowed = other == own or RANK[other] < RANK[own] or other in ALSO.get(own, ())
        assert allowed, f"{name(path)} imports {module}: {own} may not know {other}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_heavy_imports_stay_in_their_own_files(path: Path) -> None:
    for module in imports(path):
        for package, places in ONLY_IN.items():
            if module == package or module.startswith(package + "."):
                assert name(path).startswith(places), f"{name(path)} imports {module}; only {', '.join(places)} may"


@pytest.mark.parametrize("path", [*modules("targets"), *modules("sample_apps")], ids=name)
def test_targets_and_apps_do_not_know_the_exporter(path: Path) -> None:
    found = {module.split(".")[0] for module in imports(path)}
    if path.is_relative_to(ROOT / "targets" / "agent"):
        assert found <= set(sys.stdlib_module_names) | AGENT_MAY
    elif path.is_relative_to(ROOT / "targets"):
        assert found <= set(sys.stdlib_module_names) | {"targets"}
    else:
        assert not found & {"exporter", "targets"}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_size_is_a_budget(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines: split it"


@pytest.mark.parametrize("path", [*modules("exporter"), *modules("targets")], ids=name)
def test_names_say_what_a_thing_is(path: Path) -> None:
    assert path.stem.strip("_") not in BANNED_FILES
    assert path.parent.name not in BANNED_FILES
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            assert not BANNED_CLASSES.search(node.name), f"{name(path)}: class {node.name}"


@pytest.mark.parametrize("path", [*modules("exporter"), *modules("targets")], ids=name)
def test_every_file_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", modules("benchmarks"), ids=name)
def test_every_figure_says_what_it_is(path: Path) -> None:
    """What a benchmark measures, and in which unit, stands with the function that measures it."""
    public = [n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.FunctionDef)]
    silent = [n.name for n in public if not n.name.startswith("_") and n.name != "main" and not ast.get_docstring(n)]
    assert not silent, f"{name(path)}: no docstring: {', '.join(silent)}"


def test_sources_name_no_place_of_their_own() -> None:
    place = re.compile(r"/(work|home|Users|root)/\w|/tmp/venv")
    for path in modules("exporter") + modules("targets") + modules("sample_apps"):
        assert not place.search(path.read_text("utf-8")), f"{name(path)} holds an absolute path"
