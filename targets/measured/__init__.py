"""Measured capabilities, one JSON a device (targets/capabilities.py)."""
