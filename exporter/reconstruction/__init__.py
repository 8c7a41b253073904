"""Block reconstruction: the layers of a block learn their roundings together (Li et al. 2021, BRECQ; see run.py)."""

from __future__ import annotations

from exporter.reconstruction.run import reconstruct

__all__ = ["reconstruct"]
