"""One thing that the linter found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Kind"]

Kind = Literal["preprocessing", "layout", "constant", "duplicates", "classes", "leak", "too few"]


@dataclass(frozen=True, slots=True)
class Finding:
    """kind: for programs. found: where and what. remedy: what to do. samples: the first few, by place in the source."""

    kind: Kind
    found: str
    remedy: str
    samples: tuple[int, ...] = ()
