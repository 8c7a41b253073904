"""Samples from every kind of source, and the line for whatever does not fit."""

from __future__ import annotations

import re
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from exporter.data import check_labels, open_dataset
from exporter.errors import DataError
from exporter.recipe import InputSpec, Preprocess

IMAGE = {"image": InputSpec(["n", 3, 4, 5])}
IMAGE_ROWS = {"image": InputSpec(["n", 2])}
ARRAY = np.random.default_rng(0).normal(size=(10, 3, 4, 5)).astype(np.float32)
NHWC = {"image": Preprocess(source_layout="NHWC", scale=1 / 255)}


def first(source, inputs=IMAGE, **options) -> np.ndarray:
    return next(open_dataset(source, inputs, **options).batches(100))["image"]


def test_arrays_files_and_callables_give_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=ARRAY)
    np.savez(tmp_path / "b.npz", images=ARRAY, labels=np.zeros(10, int))
    (tmp_path / "feed.py").write_text(
        "import numpy as np\ndef go():\n    a = np.load(__file__[:-7] + 'a.npz')['image']\n    yield a[:4]\n"
        "    yield {'image': a[4:]}\n"
    )
    for source in (ARRAY, {"image": ARRAY}, [ARRAY[:3], ARRAY[3:]], "a.npz", "b.npz", "feed.py:go"):
        np.testing.assert_array_equal(first(source, base=tmp_path), ARRAY)


CODE = {
    "no file": ("", "none.py:go", r"none\.py does not exist; paths are relative to the recipe"),
    "no callable": ("def goes(): pass", "feed_0.py:go", r"feed_0\.py has no callable 'go'; did you mean goes"),
    "cannot be imported": ("import nonesuch_module", "feed_1:go", "cannot import 'feed_1': No module named 'nonesuch"),
    "fails": ("def go(): return 1 / 0", "feed_2:go", r"go\(\) failed: division by zero; it is called without"),
    "ends the process": ("def go(): raise SystemExit(3)", "feed_3:go", r"go\(\) failed: 3"),
    "fails on its way": ("def go():\n    yield 1 / 0", "feed_4:go", "data 'feed_4:go' failed: division by zero"),
    "gives nothing": ("def go(): pass", "feed_5:go", "gives NoneType"),
}


@pytest.mark.parametrize("case", CODE)
def test_a_callable_that_does_not_give_data(case: str, tmp_path: Path) -> None:
    code, source, line = CODE[case]
    (tmp_path / f"{source.partition(':')[0].removesuffix('.py')}.py").write_text(code) if code else None
    with pytest.raises(DataError, match=line):
        open_dataset(source, IMAGE, base=tmp_path)
    assert str(tmp_path) not in sys.path


def test_what_a_callable_prints_is_no_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """stdout is for results: in the module, in the callable, and while its batches come."""
    (tmp_path / "loud.py").write_text(
        "import numpy as np\nprint('module')\ndef go():\n    print('batch')\n    yield np.ones((2, 3, 4, 5), 'f4')\n"
    )
    assert first("loud:go", base=tmp_path).shape == (2, 3, 4, 5)
    out, err = capfd.readouterr()
    assert (out, err.split()) == ("", ["module", "batch"])


def test_what_torch_gives() -> None:
    x, y = torch.from_numpy(ARRAY), torch.arange(10)
    np.testing.assert_array_equal(first(x), ARRAY)
    np.testing.assert_array_equal(first({"image": x}), ARRAY)
    for columns in ((x,), (x, y)):
        loader = DataLoader(TensorDataset(*columns), batch_size=4)
        np.testing.assert_array_equal(first(loader), ARRAY)
        labels = open_dataset(loader, IMAGE).labels
        assert (labels is None) == (len(columns) == 1)
        assert labels is None or labels.tolist() == list(range(10))


def test_batches_of_several_inputs() -> None:
    inputs = {"a": InputSpec(["n", 2]), "b": InputSpec(["n", 2])}
    a, b, y = (np.arange(6, dtype=np.float32).reshape(3, 2) + i for i in range(3))
    for kind in (tuple, list):
        data = open_dataset([kind((a, b)), kind((a, b))], inputs)
        assert (data.count, data.labels) == (6, None)
        assert (next(data.batches(3))["b"] == b).all()
        labelled = open_dataset([kind((a, b, y[:, 0]))], inputs)
        assert labelled.labels is not None
        assert labelled.labels.tolist() == y[:, 0].tolist()
    with pytest.raises(DataError, match="a batch of 4 arrays for 2 inputs"):
        open_dataset([(a, b, y, y)], inputs)


def test_a_batch_may_be_the_list_of_its_samples() -> None:
    np.testing.assert_array_equal(first([list(ARRAY[:4]), list(ARRAY[4:])]), ARRAY)


def test_image_folders_with_classes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image.fromarray(np.full((4, 5, 3), 255, np.uint8)).save(tmp_path / name / "1.png")
    dataset = open_dataset(str(tmp_path), IMAGE, NHWC, labelled=True)
    assert dataset.labels.tolist() == [0, 1]
    np.testing.assert_allclose(next(dataset.batches(2))["image"], 1.0)


def test_wav_folders_are_cut_and_padded(tmp_path: Path) -> None:
    for number, length in enumerate((50, 200)):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(np.ones(length, "<i2").tobytes())
    inputs, spec = {"audio": InputSpec(["n", 100])}, {"audio": Preprocess(length=100)}
    batch = next(open_dataset(str(tmp_path), inputs, spec).batches(2))["audio"]
    assert batch.sum(1).tolist() == [50, 100]


def test_a_limit_draws_a_seeded_subset_in_order() -> None:
    source = {"image": ARRAY, "labels": np.arange(10)}
    once, again = (open_dataset(source, IMAGE, limit=4, seed=7) for _ in range(2))
    assert once.labels.tolist() == again.labels.tolist() == sorted(once.labels.tolist())
    assert open_dataset(source, IMAGE, limit=10).labels.tolist() == list(range(10))


BAD = np.full_like(ARRAY, 1.0)
BAD[6, 0, 0, 0] = np.nan
CASES = {
    "shape": ({"image": ARRAY[:, :2]}, {}, r"\[2, 4, 5\].*\[3, 4, 5\]"),
    "empty": ({"image": ARRAY[:0]}, {}, "no samples"),
    "labels": ({"image": ARRAY}, {"labelled": True}, "no labels"),
    "label count": ({"image": ARRAY, "labels": np.arange(3)}, {}, "3 labels for 10 samples"),
    "missing file": ("none.npz", {}, "does not exist"),
    "missing array": ({"a": ARRAY, "b": ARRAY}, {}, "no array 'image'"),
    "preprocess of no input": ({"image": ARRAY}, {"preprocess": {"sound": Preprocess()}}, "sound"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(name: str) -> None:
    source, options, line = CASES[name]
    with pytest.raises(DataError, match=line):
        open_dataset(source, IMAGE, **options)


def test_nan_names_its_sample() -> None:
    with pytest.raises(DataError, match="sample 6"):
        list(open_dataset(BAD, IMAGE).batches(4))


def test_integer_inputs_are_not_rounded() -> None:
    inputs = {"image": InputSpec(["n", 2], "int64")}
    assert first(np.array([[1, 2]]), inputs).dtype == np.int64
    with pytest.raises(DataError, match="int64"):
        first(np.array([[1.5, 2]]), inputs)


NINE = np.arange(9)
PAIRS = np.repeat(np.arange(4), 2)


@pytest.mark.parametrize(
    ("metric", "labels", "shape", "words"),
    [
        ("top1", [0, 4], [None, 4], "label 4 of sample 1 is out of range; the model has 4 outputs"),
        ("top1", [-1, 0], [None, 4], "label -1"),
        ("top5", [-1, 0], (), "label -1"),
        ("top1", [0.5, 1], [None, 4], "must be integers"),
        ("top1", np.eye(4, dtype=np.int64), [None, 4], "class labels are one integer a sample: labels.argmax(1)"),
        ("top1", np.zeros((2, 8, 8), np.int64), [None, 4, 8, 8], "one integer a sample"),
        ("mse", NINE, [None, 3], "which has 3 for each sample"),
        ("cosine", np.ones((9, 2)), [None, 3], "which has 3 for each sample"),
        ("mse", np.array(["a", "b"]), [None, 1], "mse compares numbers"),
        ("spearman", np.ones((9, 2)), [None, 1], "one number for each sample"),
        ("spearman", NINE, [None, 8], "give each pair's label twice"),
        ("spearman", NINE[:8], [None, 8], "give each pair's label twice"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit(metric: str, labels: Any, shape: Any, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        check_labels(np.asarray(labels), metric, shape, "here")


@pytest.mark.parametrize(
    ("metric", "labels", "shape"),
    [
        ("top1", NINE, [None, 10]),
        ("top5", NINE.astype(np.uint8), [9, 10, 1, 1]),
        ("top1", NINE, [None, None]),
        ("mse", NINE, [None, 1]),
        ("cosine", np.ones((9, 2, 3)), [None, 6]),
        ("cosine", np.ones((9, 2, 3)), [None, None, 3]),
        ("spearman", NINE, [None, 1]),
        ("spearman", PAIRS, [None, 8]),
    ],
)
def test_labels_that_fit(metric: str, labels: Any, shape: Any) -> None:
    check_labels(labels, metric, shape, "here")


def test_a_column_of_labels_is_a_row_of_them() -> None:
    """Compared as they lie, each of N outputs would meet all N labels."""
    data = open_dataset({"image": np.zeros((3, 2), np.float32), "labels": np.array([[1], [0], [2]])}, IMAGE_ROWS)
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0, 2]


def test_one_label_for_all_is_none() -> None:
    with pytest.raises(DataError, match="1 labels for 3 samples"):
        open_dataset({"image": np.zeros((3, 2), np.float32), "labels": np.array(1)}, IMAGE_ROWS)
