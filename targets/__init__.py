"""Where bundles run. Standard library and numpy only; knows nothing of the exporter."""

from __future__ import annotations

from targets.check import check
from targets.devices_table import get_target, list_targets
from targets.types import Job, Target, TargetError, Transport

__all__ = ["Job", "Target", "TargetError", "Transport", "check", "get_target", "list_targets"]
