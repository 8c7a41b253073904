"""The recipe: one line for every mistake, the same text for the same recipe, a flag for every key."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import exporter
from exporter import recipe as recipes
from exporter.errors import RecipeError
from exporter.recipe import (
    KEYS,
    Data,
    Gates,
    InputSpec,
    LogMel,
    Model,
    Override,
    Preprocess,
    Quantize,
    Recipe,
    Targets,
    toml,
)
from targets.agent.metrics import METRICS

GOOD = """
name = "digits"
[model]
source = "net:resnet20"
checkpoint = "resnet20.th"
[model.inputs.image]
shape = ["batch", 3, 32, 32]
[data]
calibration = "calib.npz"
calibration_samples = 512
[data.preprocess.image]
source_layout = "NHWC"
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[gates]
max_drop = 1
"""
MODEL = '[model]\nsource = "a.onnx"\n'


def test_a_full_recipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    recipe = recipes.read_recipe(path)
    assert recipe.model == Model("net:resnet20", "resnet20.th", {"image": InputSpec(["batch", 3, 32, 32])})
    assert recipe.data.preprocess["image"].mean == [0.485, 0.456, 0.406]
    assert recipe.gates == Gates(max_drop=1.0)
    assert recipe.quantize == Quantize()
    assert recipe.targets == Targets(["host"], ["onnxruntime", "tflite"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[modl]\n", "unknown key modl; did you mean 'model'?"),
        ("", "model.source is missing; expected a string"),
        ("model = 3", "model = 3: expected a table"),
        ("[model]\nsource = 3", "model.source = 3: expected a string"),
        (MODEL + 'checkpont = "x"', "unknown key model.checkpont; did you mean 'checkpoint'?"),
        (MODEL + '[quantize]\nweights = "int9"', 'quantize.weights = "int9": expected one of "int8", "int7"'),
        (MODEL + "[quantize]\nzzz = 1", "unknown key quantize.zzz; known here: weights, activations"),
        (MODEL + "[data]\ncalibration_samples = 0", "data.calibration_samples = 0: expected an integer >= 1"),
        (MODEL + "[data]\ncalibration_samples = true", "data.calibration_samples = true: expected an integer >= 1"),
        (MODEL + "[data]\nbatch_size = 1.5", "data.batch_size = 1.5: expected an integer >= 1"),
        (MODEL + '[model.inputs."in.1"]\ndtype = "float32"', 'model.inputs."in.1".shape is missing; expected a list'),
        (MODEL + "[model.inputs.x]\nshape = [1, 2.5]", "model.inputs.x.shape[1] = 2.5: expected an integer or a"),
        (MODEL + "[model.inputs.x]\nshape = [0]", "model.inputs.x: a shape needs integers >= 1"),
        (MODEL + '[model.inputs.x]\nshape = [1]\ndtype = "flot32"', "did you mean 'float32'?"),
        (MODEL + "[data.preprocess.x]\nstd = [0.0, 1.0]", "data.preprocess.x: std must not be 0"),
        (MODEL + "[data.preprocess.x]\nmean = [1.0]\nstd = [1.0, 1.0]", "data.preprocess.x: mean and std must"),
        (MODEL + "[data.preprocess.x]\nmean = [nan]", "data.preprocess.x.mean = [nan]: expected a list, each a number"),
        (MODEL + "[data.preprocess.x]\nscale = inf", "data.preprocess.x.scale = inf: expected a number"),
        (MODEL + "[data.preprocess.x]\nresize = [8]", "data.preprocess.x.resize = [8]: expected a list of 2"),
        (MODEL + "[data.preprocess.x.log_mel]\nhop = 9", "data.preprocess.x.log_mel.sample_rate is missing"),
        (MODEL + "[data.preprocess.x.log_mel]\nsample_rate = 8000\nfmax = 5000", "fmin 20 < fmax 5000 <= sample_rate"),
        (MODEL + '[targets]\nruntimes = ["tflit"]', "targets.runtimes[0] = \"tflit\": expected"),
        (MODEL + "[targets]\nnames = []", "targets.names = []: expected a list, each a string, not empty"),
        (MODEL + '[targets]\nruntimes = ["tflite", "tflite"]', "targets: a name stands twice"),
        (MODEL + "[gates]\nmin_agreement = 1.01", "gates.min_agreement = 1.01: expected a number >= 0 and <= 1"),
        (MODEL + "[gates]\nmax_drop = -0.1", "gates.max_drop = -0.1: expected a number >= 0"),
        (MODEL + "[gates]\nmax_drop = nan", "gates.max_drop = nan: expected a number >= 0"),
        ("[model]\nsource =\n", "not valid TOML: Invalid value (at line 2, column 9)"),
        ("x\n", "not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 2)"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_file_and_key(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        recipes.read_recipe(path)
    assert line in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*No such file"):
        recipes.read_recipe(tmp_path / "none.toml")
    (tmp_path / "model.onnx").write_bytes(b"\x08\xff\xfe")
    with pytest.raises(RecipeError, match="not text in UTF-8"):
        recipes.read_recipe(tmp_path / "model.onnx")


_names = st.text(max_size=12)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_preprocess = st.builds(
    Preprocess,
    source_layout=st.sampled_from(["NHWC", "NCHW", None]),
    length=st.none() | st.integers(1, 2**40),
    scale=_floats,
    log_mel=st.none() | st.builds(LogMel, sample_rate=st.integers(8000, 48000)),
    mean=_floats,
    std=_floats.filter(bool),
)
_inputs = st.builds(InputSpec, shape=st.lists(st.integers(1, 9) | st.text(min_size=1, max_size=5), max_size=4))
_overrides = st.builds(
    Override,
    match=st.text(min_size=1, max_size=9),
    weights=st.sampled_from(["int4", "ternary", None]),
    granularity=st.sampled_from(["channel", 32, None]),
    symmetric=st.sampled_from([True, False, None]),
)
_recipes = st.builds(
    Recipe,
    model=st.builds(Model, source=st.text(min_size=1), inputs=st.dictionaries(_names, _inputs, max_size=3)),
    data=st.builds(Data, calibration=st.none() | _names, preprocess=st.dictionaries(_names, _preprocess, max_size=3)),
    quantize=st.builds(Quantize, keep_float=st.lists(_names, max_size=3), override=st.lists(_overrides, max_size=2)),
    gates=st.builds(Gates, max_drop=st.none() | st.floats(0, 100)),
    name=st.none() | _names,
    seed=st.integers(0, 2**62),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_recipes)
def test_what_is_written_reads_back_equal(recipe: Recipe) -> None:
    text = recipes.to_toml(recipe)
    assert recipes.from_dict(tomllib.loads(text)) == recipe
    assert recipes.to_toml(recipes.from_dict(tomllib.loads(text))) == text


@pytest.mark.parametrize(
    "value", ["", 'a"b\\c', "tab\tnewline\n", "\x7f\x00", "日本 🎈", 1e-30, -0.0, 3, True, [1, "a"]]
)
def test_toml_values(value: object) -> None:
    assert tomllib.loads(f"x = {toml.value(value)}") == {"x": value}


def test_every_leaf_has_one_flag() -> None:
    flags = {key.path: key.flag for key in KEYS}
    assert len(set(flags.values())) == len(flags)
    expected = {
        "model.checkpoint": "--checkpoint",
        "data.calibration": "--calibration",
        "data.calibration_samples": "--calibration-samples",
        "quantize.weights": "--weights",
        "targets.names": "--target",
        "targets.runtimes": "--runtimes",
        "gates.max_drop": "--max-drop",
        "seed": "--seed",
    }
    assert expected.items() <= flags.items()
    assert all(key.description for key in KEYS)
    assert {key.path for key in KEYS if key.is_path} == {
        "model.source", "model.checkpoint", "data.calibration", "data.evaluation", "finetune.data",
        "finetune.checkpoint", "law.members", "law.checkpoints",
    }  # fmt: skip


def test_overrides_and_arguments() -> None:
    recipe = recipes.with_overrides(
        Recipe(Model("a.onnx")),
        {"quantize.weights": "float", "data": {"preprocess": {"in.1": {"scale": 0.5}}}, "gates.max_drop": 0.5},
    )
    assert recipe.quantize.weights == "float"
    assert recipe.data.preprocess == {"in.1": Preprocess(scale=0.5)}
    assert recipes.with_overrides(recipe, {"gates.max_drop": None}).gates.max_drop is None
    same = recipes.with_arguments(None, {"source": "a.onnx", "weights": "float", "max_drop": 0.5,
                                         "preprocess": {"in.1": Preprocess(scale=0.5)}, "seed": None})  # fmt: skip
    assert same == recipe
    with pytest.raises(RecipeError, match="arguments: unknown argument 'max_dropp'; did you mean 'max_drop'"):
        recipes.with_arguments(recipe, {"max_dropp": 1})
    with pytest.raises(RecipeError, match=r"arguments: gates.max_drop = \"x\": expected a number >= 0"):
        recipes.with_arguments(recipe, {"max_drop": "x"})
    with pytest.raises(RecipeError, match=r"model\.source is missing"):
        recipes.with_arguments(None, {"weights": "int8"})


def test_a_command_line_amounts_to_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"calibration": "data/c.npz", "max_drop": "0.5", "target": ["host,raspberry-pi-5", "pixel"], "seed": "7"}
    changes = ["data.preprocess.image.scale=0.0039", 'data.preprocess.image.source_layout="NHWC"']
    recipe, base = recipes.from_command("model.onnx", flags, ["image=batch,3,32,32", "k:0=4:int64"], changes)
    assert base == Path()
    assert recipe.model.inputs == {"image": InputSpec(["batch", 3, 32, 32]), "k:0": InputSpec([4], "int64")}
    assert recipe.targets.names == ["host", "raspberry-pi-5", "pixel"]
    assert (recipe.seed, recipe.gates.max_drop, recipe.data.calibration) == (7, 0.5, "data/c.npz")
    assert recipe.data.preprocess["image"] == Preprocess(source_layout="NHWC", scale=0.0039)

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "r.toml").write_text(GOOD)
    recipe, base = recipes.from_command("sub/r.toml", flags | {"evaluation": "pkg.mod:batches"}, [], [])
    assert base == Path("sub")
    assert recipe.data.calibration == "../data/c.npz"  # typed from here, stored from the recipe's folder
    assert recipe.data.evaluation == "pkg.mod:batches"
    assert recipe.model.checkpoint == "resnet20.th"


@pytest.mark.parametrize(
    ("flags", "inputs", "settings", "line"),
    [
        ({"max_drop": "much"}, [], [], 'command line: gates.max_drop = "much": expected a number >= 0'),
        ({"weights": "int88"}, [], [], 'command line: quantize.weights = "int88": expected'),
        ({}, ["image"], [], "--input image: expected NAME=DIM,DIM,…[:DTYPE]"),
        ({}, ["x=1:flot32"], [], 'command line: model.inputs.x.dtype = "flot32"'),
        ({}, [], ["seed"], "--set seed: not KEY=VALUE in TOML"),
        ({}, [], ["quantize.weights=int8"], "strings need quotes"),
        ({}, [], ["quantise.weights='int8'"], "--set: unknown key quantise; did you mean 'quantize'?"),
    ],
)
def test_a_mistake_on_the_command_line_names_it(
    flags: dict[str, str], inputs: list[str], settings: list[str], line: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(line)):
        recipes.from_command("a.onnx", flags, inputs, settings)


def test_the_published_schema_is_current() -> None:
    path = Path(exporter.__path__[0], "recipe.schema.json")
    assert json.loads(path.read_text("utf-8")) == recipes.schema(), "write it again: kbit schema > " + str(path.name)


def test_docs_name_every_key() -> None:
    text = Path(__file__).parents[1].joinpath("docs", "recipe.md").read_text("utf-8")
    for key in KEYS:
        default = "" if key.default in (None, []) else toml.value(key.default)
        row = f"| `{key.path}` | `{key.flag}` | {key.expected.replace('|', '/')} | {default} | {key.description} |"
        assert row in text, f"docs/recipe.md lacks: {row}"


def test_the_metrics_are_those_that_the_checker_knows() -> None:
    metric = next(key for key in KEYS if key.path == "data.metric")
    assert set(metric.choices) == set(METRICS)


def test_structs_are_frozen() -> None:
    recipe = Recipe(Model("a.onnx"))
    with pytest.raises(AttributeError):
        recipe.seed = 3  # type: ignore[misc]
    assert msgspec.structs.replace(recipe, seed=3).seed == 3
