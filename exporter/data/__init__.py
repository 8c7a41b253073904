"""Calibration and evaluation samples: read once, checked, streamed in batches of model-ready arrays."""

from __future__ import annotations

from exporter.data.dataset import Dataset, fixed_batch, open_dataset
from exporter.data.labels import check_labels

__all__ = ["Dataset", "check_labels", "fixed_batch", "open_dataset"]
