"""Train dscnn.py on real spoken digits and write what recipe.toml names into out/. About a minute on two cores.

python -m benchmarks.speech.train

The spectrograms come from the very function that calibrates, evaluates and runs on the device, with the recipe's own
numbers. The split is the data's official one: recordings 0 to 4 of each speaker and digit are the test; what remains
is 45 of each, so the training set is balanced over speakers and digits.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.measure import data
from benchmarks.speech.dscnn import build
from targets.agent import preprocess

__all__ = ["train"]

HERE = Path(__file__).parent
SEED, COPIES, EPOCHS, BATCH, RATE = 0, 4, 16, 64, 4e-3
Waves = npt.NDArray[np.int16]


def clips() -> tuple[list[Waves], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Recordings as int16 samples, their digits, and which of them are the test."""
    with np.load(data("spoken_digits_8khz.npz")) as body:
        samples, offsets = body["samples"], body["offsets"]
        waves = [samples[a:b] for a, b in itertools.pairwise(offsets)]
        return waves, body["labels"].astype(np.int64), body["index"] < 5


def fixed(wave: npt.NDArray[Any], length: int, shift: int = 0) -> Waves:
    """Pad with zeros or cut to ``length`` samples, the start moved by ``shift`` samples."""
    out = np.zeros(length, np.int16)
    wave = wave[max(-shift, 0) :][: length - max(shift, 0)]
    out[max(shift, 0) :][: len(wave)] = np.clip(wave, -32768, 32767).astype(np.int16)
    return out


def augmented(wave: Waves, length: int, rng: np.random.Generator) -> Waves:
    """Another speed (+-15 %), loudness (x0.5 to x1.5), start (-50 to +300 ms at 8 kHz) and, half the time, noise."""
    speed = rng.uniform(0.85, 1.15)
    at = np.arange(int(len(wave) / speed)) * speed
    other = np.interp(at, np.arange(len(wave)), wave) * rng.uniform(0.5, 1.5)
    noise = rng.normal(0, 10 ** rng.uniform(0, 2.3), length) * (rng.random() < 0.5)
    return fixed(fixed(other, length, int(rng.integers(-400, 2400))) + noise, length)


def mask(mels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blank up to 5 mel bands and 9 frames of each [1,mels,frames] (Park et al. 2019, SpecAugment, without warping)."""
    for image in mels:
        for axis, most in ((1, 6), (2, 10)):
            start = int(rng.integers(0, image.shape[axis] - most))
            image.narrow(axis, start, int(rng.integers(0, most))).zero_()
    return mels


def train(make: Callable[[], nn.Module] = build, out: Path = HERE / "out") -> float:
    """Write weights.pt, calibration.npz and evaluation.npz into ``out``; returns the accuracy on the test, per cent."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # more gain little on a net this small, and wait for each other on a busy machine
    rng = np.random.default_rng(SEED)
    recipe = tomllib.loads((HERE / "recipe.toml").read_text())
    spec, shape = recipe["data"]["preprocess"]["wave"], recipe["model"]["inputs"]["wave"]["shape"]
    length = spec["length"]
    waves, labels, is_test = clips()
    known, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)

    def mels(batch: list[Waves]) -> torch.Tensor:
        return torch.from_numpy(preprocess.apply(np.stack(batch), spec, shape))

    plain = [fixed(waves[i], length) for i in known]
    copies = [mels(plain), *(mels([augmented(waves[i], length, rng) for i in known]) for _ in range(COPIES - 1))]
    y = torch.from_numpy(labels[known])
    net = make()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    steps = EPOCHS * -(-len(known) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        x = copies[epoch % COPIES]
        for index in torch.randperm(len(known)).split(BATCH):
            loss = F.cross_entropy(net(mask(x[index], rng)), y[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    out.mkdir(parents=True, exist_ok=True)
    held_out = [fixed(waves[i], length) for i in test]
    net.eval()
    with torch.no_grad():
        right = (net(mels(held_out)).argmax(1).numpy() == labels[test]).mean()
    torch.save(net.state_dict(), out / "weights.pt")
    chosen = rng.permutation(len(known))[:512]
    np.savez(out / "calibration.npz", wave=np.stack([plain[i] for i in chosen]))
    np.savez(out / "evaluation.npz", wave=np.stack(held_out), labels=labels[test].astype(np.uint8))
    return float(100 * right)


if __name__ == "__main__":
    print(f"float accuracy on the 300 test recordings: {train():.2f} %")
