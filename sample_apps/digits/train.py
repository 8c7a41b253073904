"""Train model.py on scikit-learn's handwritten digits and write what recipe.toml names into out/. Takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from model import build
from sklearn.datasets import load_digits
from torch.nn import functional as F

OUT = Path(__file__).parent / "out"
SEED, EPOCHS, BATCH = 0, 12, 64
TRAIN = 1200  # of 1797; the rest is for evaluation


def main() -> None:
    OUT.mkdir(exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the same sums in the same order on every machine
    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]  # [N,8,8,1], 0 to 16
    labels = digits.target.astype(np.uint8)
    np.savez(OUT / "calibration.npz", image=images[:512])
    np.savez(OUT / "evaluation.npz", image=images[TRAIN:], labels=labels[TRAIN:])

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 16
    y = torch.from_numpy(labels).long()
    net = build()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
    steps = EPOCHS * -(-TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for index in torch.randperm(TRAIN).split(BATCH):
            loss = F.cross_entropy(net(x[index]), y[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        right = (net(x[TRAIN:]).argmax(1) == y[TRAIN:]).float().mean().item()
    torch.save(net.state_dict(), OUT / "digits.pt")
    print(f"trained on {TRAIN} digits; {100 * right:.2f} % of the other {len(y) - TRAIN} are right")


if __name__ == "__main__":
    main()
