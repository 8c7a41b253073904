"""Calibration and evaluation samples: read once, checked, streamed in batches of model-ready arrays."""

from __future__ import annotations

from exporter.data.dataset import Dataset, check_labels, fixed_batch, open_dataset

__all__ = ["Dataset", "check_labels", "fixed_batch", "open_dataset"]
