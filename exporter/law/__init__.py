"""The k-bit law: a family of models at every width, quality against total bits, and what to take for each size."""

from __future__ import annotations

from exporter.law.fit import Fit, fit
from exporter.law.run import Law, run_law
from exporter.law.types import Member, Point, Result
from exporter.law.words import sentences

__all__ = ["Fit", "Law", "Member", "Point", "Result", "fit", "run_law", "sentences"]
