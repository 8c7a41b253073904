"""Mixed precision against uniform widths over several sets of calibration images, so that luck is seen as such.

python -m benchmarks.mixed_draws [OUT] [--draws 6]   # after python -m benchmarks.mixed_precision

The plans in OUT (default out/mixed/auto), found with the calibration images, are rounded anew with draws of 520 of the
10,000 training images that neither search nor rounding has seen; each on the 2,000 test images, in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from benchmarks.measure import cifar10, machine, table
from benchmarks.mixed_precision import Logits, nearness, recipe
from benchmarks.resnet20 import RECIPE
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import Quantize, read_recipe
from exporter.reference import session
from exporter.subject import open_subject

__all__ = ["rounded"]

Images = npt.NDArray[np.float32]
PLANS = ("all int2", "2.5 on average", "3 on average", "all int3")
PAIRS = (("3 on average", "all int3"), ("2.5 on average", "all int2"))
IMAGES, ROWS = 520, 40


def outputs(model: ir.Model, images: Images) -> Logits:
    """Logits [N,10] for images [N,3,32,32], on one thread."""
    opened = session(model, threads=1)
    name, result = opened.get_inputs()[0].name, opened.get_outputs()[0].name
    parts = [opened.run([result], {name: images[i : i + ROWS]})[0] for i in range(0, len(images), ROWS)]
    return np.concatenate(parts).astype(np.float64)


def rounded(model: ir.Model, wishes: Quantize, images: Images) -> ir.Model:
    """The QDQ graph of the prepared model, calibrated and rounded with these images [N,3,32,32]."""
    name = model.graph.inputs[0].name
    feeds = [{str(name): images[i : i + ROWS]} for i in range(0, len(images), ROWS)]
    made = quantize(model, wishes, lambda: iter(feeds))
    return apply(made.model, made.rounded)


def main() -> None:
    """Two tables: each plan's mean and standard deviation over the draws; what mixed widths win, draw by draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", default="out/mixed/auto", type=Path)
    parser.add_argument("--draws", default=6, type=int)
    given = parser.parse_args()
    model = open_subject(recipe(), RECIPE.parent).prepared()
    pixels, labels = cifar10("cifar10_test2000.npz")
    tests = pixels.transpose(0, 3, 1, 2)
    train = cifar10("cifar10_train10k.npz")[0].transpose(0, 3, 1, 2)
    exact = outputs(model, tests)
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for draw in range(given.draws):
        for plan in PLANS:
            wishes = read_recipe(given.out / plan.replace(" ", "-") / "recipe.toml").quantize
            got = outputs(rounded(model, wishes, train[draw * IMAGES :][:IMAGES]), tests)
            found[plan].append((100 * float(np.mean(got.argmax(1) == labels)), *nearness(exact, got)))
            print(draw, plan, *(f"{value:.4f}" for value in found[plan][-1]), file=sys.stderr, flush=True)
    rows = []
    for plan in PLANS:
        mean, off = np.mean(found[plan], axis=0), np.std(found[plan], axis=0, ddof=1)
        rows.append([plan, *(f"{m:.{d}f} ± {o:.{d}f}" for m, o, d in zip(mean, off, (2, 4, 2), strict=True))])
    print(machine("onnxruntime"), f"\n\nfloat: {100 * np.mean(exact.argmax(1) == labels):.2f}\n")
    print(table(["weights", "top-1", "divergence, nats", "class as float's, %"], rows), "\n")
    wins = [[f"{a} - {b}", *(f"{x[0] - y[0]:+.2f}" for x, y in zip(found[a], found[b], strict=True))] for a, b in PAIRS]
    print(table(["top-1", *(f"draw {i + 1}" for i in range(given.draws))], wins))


if __name__ == "__main__":
    main()
