"""Train tests/nets/mobilenet_v2.py on the 10,000 CIFAR-10 images and write out/weights.pt: 15 minutes on one core.

The first convolution has stride 2, as in the paper: the whole net then takes a quarter of the time.

python -m benchmarks.mobilenet.train [--epochs N]

Stops after N further epochs (default: all that are left) and goes on from out/state.pt when started again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.measure import cifar10
from tests.nets.mobilenet_v2 import mobilenet_v2

__all__ = ["OUT", "build", "train"]

OUT = Path(__file__).parent / "out"
EPOCHS, BATCH, RATE, SEED = 12, 64, 6e-3, 0


def build() -> torch.nn.Module:
    """The net."""
    return mobilenet_v2(stem=2)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each image [N,3,32,32] moved by up to 4 pixels, and half of them mirrored."""
    padded = F.pad(images, (4, 4, 4, 4))
    moved = torch.empty_like(images)
    for i, (y, x) in enumerate(torch.randint(0, 9, (len(images), 2)).tolist()):
        moved[i] = padded[i, :, y : y + 32, x : x + 32]
    mirrored = torch.rand(len(images)) < 0.5
    moved[mirrored] = moved[mirrored].flip(3)
    return moved


def train(more: int = EPOCHS) -> tuple[int, float]:
    """Epochs done in all, and the accuracy on the 2,000 test images, in per cent."""
    torch.manual_seed(SEED)
    pixels, targets = cifar10("cifar10_train10k.npz")
    images, labels = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(targets).long()
    net = build()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.5)
    done = 0
    if (OUT / "state.pt").exists():
        state = torch.load(OUT / "state.pt", weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = state["done"]
        torch.manual_seed(SEED + done)
    for _ in range(min(more, EPOCHS - done)):
        net.train()
        for index in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(net(shifted(images[index])), labels[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        done += 1
        OUT.mkdir(exist_ok=True)
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        torch.save({**state, "done": done}, OUT / "state.pt")
    pixels, targets = cifar10("cifar10_test2000.npz")
    net.eval()
    with torch.no_grad():
        tests = torch.from_numpy(pixels).permute(0, 3, 1, 2).split(250)
        right = (torch.cat([net(part).argmax(1) for part in tests]) == torch.from_numpy(targets)).float().mean()
    torch.save(net.state_dict(), OUT / "weights.pt")
    return done, 100 * float(right)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    epochs, accuracy = train(parser.parse_args().epochs)
    print(f"{epochs} of {EPOCHS} epochs: {accuracy:.2f} % of the test images")
