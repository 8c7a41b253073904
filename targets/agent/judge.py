"""Measured figures against the gates: one pure function, on the device and on the developer's machine."""

from __future__ import annotations

from typing import Any

__all__ = ["TIMED", "judge"]

# gates that need a clock which means something
TIMED = ("max_latency_ms", "max_latency_p95_ms", "max_load_ms", "max_first_token_ms", "min_decode_rate")


def _latency(key: Any) -> Any:
    return lambda a: (a.get("latency_ms") or {}).get(key)


# gate -> (figure of an artifact, text): at most
_PER_ARTIFACT: Any = (
    ("max_drop", lambda a: a.get("drop"), "drop %s, limit %s points"),
    ("max_latency_ms", _latency("p50"), "median latency %s ms, limit %s ms"),
    ("max_latency_p95_ms", _latency("p95"), "95th percentile of the latency %s ms, limit %s ms"),
    ("max_load_ms", lambda a: a.get("load_ms"), "loading took %s ms, limit %s ms"),
    ("max_divergence", lambda a: a.get("divergence"), "divergence from the float model %s nats, limit %s"),
    ("max_first_token_ms", lambda a: a.get("first_token_ms"), "first token after %s ms, limit %s ms"),
    ("max_bytes", lambda a: a.get("bytes"), "size %s bytes, limit %s"),
    ("max_peak_bytes", lambda a: a.get("peak_bytes"), "peak memory %s bytes, limit %s"),
)
_AT_LEAST: Any = (("min_decode_rate", lambda a: a.get("decode_rate"), "writes %s tokens a second, limit %s"),)


def judge(gates: Any, artifacts: Any, agreement: Any, conditions: Any = None) -> Any:
    """Reasons why it may not ship, empty when it may.

    gates       recipe.Gates as plain data; a missing or None gate is not judged, one that was not measured fails
    artifacts   figures of each candidate artifact, by name
    conditions  of the device meanwhile: temperature_c; clock_broken fails every gate on a time
    """
    state = conditions or {}
    reasons = []
    for name, figures in artifacts.items():
        for error in figures.get("errors", ()):
            reasons.append("%s: %s" % (name, error))
        for gate, get, text in _PER_ARTIFACT + _AT_LEAST:
            limit = gates.get(gate)
            if limit is None:
                continue
            value = None if gate in TIMED and state.get("clock_broken") else get(figures)
            if value is None:
                reasons.append("%s: gate %s was not measured" % (name, gate))
            elif not (value >= limit - 1e-9 if gate.startswith("min_") else value <= limit + 1e-9):
                reasons.append("%s: %s: %s" % (name, gate, text % (_short(value), _short(limit))))
    limit = gates.get("min_agreement")
    if limit is not None and len(artifacts) > 1:
        value = (agreement or {}).get("top1")
        if value is None:
            reasons.append("gate min_agreement was not measured")
        elif not value >= limit - 1e-9:
            reasons.append(
                "min_agreement: the artifacts agree on %s of the samples, limit %s" % (_short(value), _short(limit))
            )
    limit = gates.get("max_temperature_c")
    if limit is not None:
        value = state.get("temperature_c")
        if value is None:
            reasons.append("gate max_temperature_c was not measured")
        elif not value <= limit + 1e-9:
            reasons.append("max_temperature_c: %s degrees C, limit %s" % (_short(value), _short(limit)))
    return reasons


def _short(value: Any) -> str:
    return "%.4g" % value if isinstance(value, float) else str(value)
