"""How far the two artifacts of a bundle are one: every integer, each operator, the whole, and the noise beside it."""

from __future__ import annotations

from exporter.parity.certificate import certify
from exporter.parity.types import Certificate, to_dict

__all__ = ["Certificate", "certify", "to_dict"]
