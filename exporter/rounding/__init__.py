"""How a weight becomes integers on its grid. One algorithm a file; ROUNDERS is the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from exporter.rounding.nearest import nearest
from exporter.types import QParams

__all__ = ["ROUNDERS", "Rounder"]

Rounder = Callable[[npt.NDArray[np.float32], QParams], npt.NDArray[np.int32]]

ROUNDERS: Mapping[str, Rounder] = {"nearest": nearest}
