"""SSDLite head (Sandler et al. 2018) on two feature maps: boxes and class scores of all anchors in one tensor each."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ssdlite"]


def _separable(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(),
    )


def _predictor(channels: int, out: int) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(channels), nn.ReLU6(), nn.Conv2d(channels, out, 1))


class SSDLite(nn.Module):
    """image [N,3,64,64] -> scores [N,anchors,classes] after softmax, boxes [N,anchors,4]."""

    def __init__(self, classes: int, anchors: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.early = nn.Sequential(_separable(16, 32, 2), _separable(32, 32))
        self.late = _separable(32, 64, 2)
        widths = (32, 64)
        self.scores = nn.ModuleList(_predictor(w, anchors * classes) for w in widths)
        self.boxes = nn.ModuleList(_predictor(w, anchors * 4) for w in widths)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        early = self.early(self.stem(image))
        maps = (early, self.late(early))
        scores = [self._flat(head(x), self.classes) for head, x in zip(self.scores, maps, strict=True)]
        boxes = [self._flat(head(x), 4) for head, x in zip(self.boxes, maps, strict=True)]
        return torch.cat(scores, 1).softmax(-1), torch.cat(boxes, 1)

    @staticmethod
    def _flat(x: torch.Tensor, last: int) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, last)


def ssdlite(classes: int = 5, anchors: int = 3) -> nn.Module:
    return SSDLite(classes, anchors)
