"""Inspect a bundle: its manifest, its plan, and each of its artifacts."""

from __future__ import annotations

from pathlib import Path

from exporter import bundle
from exporter.inspection.onnx_file import inspect_onnx
from exporter.inspection.plan_file import inspect_plan
from exporter.inspection.tflite_file import inspect_tflite
from exporter.inspection.types import FloatNode, Inspection, Port

__all__ = ["inspect_bundle"]


def inspect_bundle(path: Path) -> Inspection:
    """Every file is verified first. Raises BundleError."""
    manifest = bundle.verify(path).manifest
    parts = []
    for artifact in manifest["artifacts"]:
        look = inspect_tflite if artifact["runtime"] == "tflite" else inspect_onnx
        parts.append(look(path / artifact["path"]))
    plan = inspect_plan(path / "plan.json") if manifest.get("plan") else None
    ports = [
        tuple(Port(p["name"], p["dtype"], tuple(p["shape"])) for p in manifest[side]) for side in ("inputs", "outputs")
    ]
    evaluation = manifest.get("evaluation")
    facts = {"name": manifest["name"], "format": str(manifest["format"])}
    if evaluation:
        facts["evaluation"] = f"{evaluation['samples']} samples, {evaluation['metric']}"
    return Inspection(
        path=str(path),
        kind="bundle",
        size=sum(entry["bytes"] for entry in [*manifest["artifacts"], *manifest["files"]]),
        inputs=ports[0],
        outputs=ports[1],
        schemes=plan.schemes if plan else (),
        float_nodes=tuple(FloatNode(name, "", why) for name, why in manifest.get("float_nodes", {}).items()),
        facts=facts,
        parts=tuple(parts),
    )
