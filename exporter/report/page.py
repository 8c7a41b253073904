"""Bundle -> report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from exporter import bundle as bundles
from exporter.files import write_whole
from exporter.recipe import from_dict, to_toml
from exporter.report.needs import read_result, the_extra
from exporter.types import Plan
from exporter.units import size

__all__ = ["render"]

_GATES = {
    "max_drop": ("Drop of the metric, points", "drop", "≤"),
    "min_agreement": ("Top-1 agreement of the artifacts", None, "≥"),
    "max_latency_ms": ("Median latency, ms", "p50", "≤"),
    "max_latency_p95_ms": ("95th percentile of the latency, ms", "p95", "≤"),
    "max_load_ms": ("Loading, ms", "load_ms", "≤"),
    "max_bytes": ("Size, bytes", "bytes", "≤"),
    "max_peak_bytes": ("Peak memory, bytes", "peak_bytes", "≤"),
}
_TITLES = {"float": "Float", "onnxruntime": "ONNX Runtime", "tflite": "TFLite"}


def render(bundle_dir: Path | str, out: Path | None = None) -> Path:
    """Write the page (default: report.html in the bundle) and return its path; it loads nothing from elsewhere.

    What was not measured yet is named, with the command that measures it. Raises MissingError without the extra
    ``report``, BundleError for a folder that is no bundle.
    """
    with the_extra():
        import jinja2

        from exporter.report import charts, latency_charts
    folder = Path(bundle_dir)
    bundle = bundles.verify(folder)
    names = ("check", "analysis", "parity", "bench")
    check, analysis, parity, bench = (_result(folder, f"{name}.json") for name in names)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"size": _size, "number": _number, "percent": _percent}
    here = resources.files("exporter.report")
    template = environment.from_string(here.joinpath("template.html.j2").read_text(encoding="utf-8"))
    rows = _rows(bundle.manifest, check)
    layers = (analysis or {}).get("layers") or []
    parts = (analysis or {}).get("shares") or []
    page = template.render(
        style=here.joinpath("style.css").read_text(encoding="utf-8"),
        manifest=bundle.manifest,
        check=check,
        analysis=analysis,
        rows=rows,
        judged=any(limit is not None for limit in (bundle.manifest.get("gates") or {}).values()),
        gates=_gates(bundle.manifest.get("gates") or {}, check, rows),
        bars=charts.bars(rows, bundle.manifest) if check else [],
        parity=parity,
        operators=charts.operators(parity["operators"]) if parity and parity["operators"] else "",
        spreads=charts.spreads(_spreads(parity)) if parity and parity["whole"]["steps"] else "",
        shares=sorted(parts, key=lambda part: -part["alone"])[:15],
        share_chart=charts.shares(parts, analysis["divergence"]) if parts else "",
        causes=((analysis or {}).get("causes") or [])[:20],
        findings=(analysis or {}).get("findings") or [],
        layers=sorted(layers, key=lambda layer: layer["sqnr_db"])[:15],
        sqnr=charts.sqnr(layers) if layers else "",
        trainings=[(h, charts.training(h)) for h in (analysis or {}).get("training") or []],
        histograms=[charts.histogram(h) for h in (analysis or {}).get("histograms") or []],
        bench=bench,
        latency=[latency_charts.intervals(setting["artifacts"]) for setting in bench["settings"]] if bench else [],
        kernels={name: latency_charts.kernels(body["ops"]) for name, body in bench["profiles"].items()}
        if bench
        else {},
        curve=latency_charts.curve(bench["sustained"]) if bench and bench["sustained"] else "",
        plan=_plan(folder),
        recipe=to_toml(from_dict(bundle.manifest["recipe"], "manifest.json")),
        preprocess={i["name"]: json.dumps(i.get("preprocess"), indent=1) for i in bundle.manifest["inputs"]},
    )
    target = out or folder / "report.html"
    write_whole(target, page)
    return target


def _result(folder: Path, name: str) -> Any:
    """check.json, analysis.json, …; None when not there yet."""
    path = folder / name
    return read_result(path, "kbit check") if path.is_file() else None


def _rows(manifest: Mapping[str, Any], check: Any) -> list[dict[str, Any]]:
    rows = []
    for artifact in manifest["artifacts"]:
        facts = ((check or {}).get("artifacts") or {}).get(artifact["name"]) or {}
        latency = facts.get("latency_ms") or {}
        rows.append({
            "name": artifact["name"], "title": _TITLES.get(artifact["name"], artifact["name"]),
            "role": artifact["role"], "bytes": artifact["bytes"], "sha256": artifact["sha256"],
            "path": artifact["path"],
            "metric": facts.get("metric"), "drop": facts.get("drop"), "p50": latency.get("p50"),
            "p90": latency.get("p90"), "p95": latency.get("p95"), "n": latency.get("n"),
            "load_ms": facts.get("load_ms"),
            "peak_bytes": facts.get("peak_bytes"), "version": facts.get("runtime_version"),
            "errors": facts.get("errors") or [],
        })  # fmt: skip
    return rows


def _spreads(parity: Mapping[str, Any]) -> dict[str, Any]:
    """Comparisons with steps, the one that counts first."""
    named = {"TFLite (LiteRT)": parity["whole"], "ONNX Runtime, not optimised": parity["noise"], **parity["others"]}
    return {name: spread for name, spread in named.items() if spread["steps"]}


def _gates(gates: Mapping[str, Any], check: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each gate and artifact: what was measured, the limit, and whether it holds."""
    found = []
    for gate, limit in gates.items():
        if limit is None or gate not in _GATES:
            continue
        title, key, sign = _GATES[gate]
        candidates = [row for row in rows if row["role"] == "candidate"] if key else [None]
        for row in candidates:
            value = row[key] if row is not None and key else ((check or {}).get("agreement") or {}).get("top1")
            holds = value is not None and (value <= limit + 1e-9 if sign == "≤" else value >= limit - 1e-9)
            found.append({"title": title, "artifact": row["title"] if row else "", "value": value, "limit": limit,
                          "sign": sign, "holds": holds})  # fmt: skip
    return found


def _plan(folder: Path) -> list[dict[str, Any]]:
    path = folder / "plan.json"
    if not path.is_file():
        return []
    rows = []
    for tensor in Plan.from_json(path.read_text(encoding="utf-8")).tensors.values():
        q = tensor.qparams
        scale = "" if q is None else f"{q.scale.min():.4g}" + (f" … {q.scale.max():.4g}" if q.scale.size > 1 else "")
        zeros = [] if q is None else sorted({int(z) for z in q.zero_point.flat})
        zero = " … ".join(str(z) for z in dict.fromkeys([*zeros[:1], *zeros[-1:]]))
        grain = "" if q is None else type(q.scheme.grain).__name__.removeprefix("Per").lower()
        bits = "float" if q is None else str(q.scheme.bits)
        rows.append({"name": tensor.name, "role": tensor.role, "bits": bits, "grain": grain, "scale": scale,
                     "zero_point": zero, "why": tensor.why})  # fmt: skip
    return rows


def _size(count: float | None) -> str:
    return "–" if count is None else size(count, digits=4)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2f} %"
