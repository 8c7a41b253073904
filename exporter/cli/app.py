"""The commands. What a command needs is imported inside it, so that --help is quick."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.devices import register, seconds
from exporter.cli.options import Json, recipe_flags
from exporter.cli.output import print_json, progress_bars, refuse_unwritable, say

__all__ = ["app"]

app = typer.Typer(
    name="kbit",
    help="From a trained model to a checked bundle for ONNX Runtime and TFLite.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Bundle = Annotated[Path, typer.Argument(metavar="DIR", help="a bundle, made by kbit export")]


def _version(wanted: bool) -> None:
    if wanted:
        try:
            say(f"kbit {metadata.version('kbit')}")
        except metadata.PackageNotFoundError:
            say("kbit, run from its sources")
        raise typer.Exit


@app.callback()
def kbit(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """From a trained model to a checked bundle for ONNX Runtime and TFLite."""


@app.command()
@recipe_flags
def export(
    what: Annotated[str, typer.Argument(metavar="SOURCE", help="RECIPE.toml, MODEL.onnx, .pt2 or module:callable")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder of the bundle; must be new or empty")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=DIMS:DTYPE", help="a model input, as in image=batch,3,32,32:float32"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="any key, as in data.preprocess.image.scale=0.0039"),
    ] = None,
    json: Json = False,
    **flags: str | list[str] | None,
) -> int:
    """Run the whole line: load, prepare, calibrate, plan, emit, package, check, report."""
    from exporter import pipeline
    from exporter.cli import tables
    from exporter.recipe import from_command

    recipe, base = from_command(what, flags, inputs or [], settings or [])
    with progress_bars() as progress:
        outcome = pipeline.run(recipe, base=base, out=out, progress=progress)
    if json:
        print_json(tables.outcome_json(outcome))
    else:
        say(*tables.outcome(outcome))
    return 0 if outcome.check["passed"] else 1


@app.command()
def check(
    bundle: Bundle,
    on: Annotated[
        str, typer.Option("--on", metavar="TARGET", help="where to run it; kbit targets lists them")
    ] = "host",
    json: Annotated[
        str | None, typer.Option("--json", metavar="[FILE]", help="write JSON to FILE, or to stdout when left out")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=0, help="evaluation samples at most; 0: all")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="of each runtime")] = 1,
    limit: Annotated[str, typer.Option("--limit", metavar="SPAN", help="the check is ended after so long")] = "1h",
    keep: Annotated[
        bool, typer.Option("--keep", help="leave the files on the device: the next check sends only what changed")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="write JUnit XML")] = None,
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="add instruction counts to it, for kbit compare")
    ] = None,
) -> int:
    """Run the bundle's own checker on a target and judge its gates."""
    from exporter import pipeline
    from exporter.cli import links, tables
    from targets.history import append
    from targets.reporting import write_summary

    refuse_unwritable(json, junit, history)
    with progress_bars() as progress:
        result = pipeline.check(
            bundle,
            on,
            progress=progress,
            announce=links.show,
            samples=samples,
            threads=threads,
            limit_s=seconds(limit),
            keep=keep,
        )
    for line in write_summary(result, result["bundle"], junit):
        typer.echo(line, err=True)
    if history is not None:
        append(history, result)
    if json is not None:
        print_json(result, json)
    if json != "-":
        say(*tables.check(result), *tables.findings(pipeline.findings(bundle)))
    return 0 if result["passed"] else 1


@app.command()
def serve(
    bundle: Annotated[Path | None, typer.Argument(metavar="DIR", help="a bundle, made by kbit export")] = None,
    setup: Annotated[bool, typer.Option("--setup", help="fetch the runtimes for browsers through npm, once")] = False,
    lan: Annotated[bool, typer.Option("--lan", help="let phones of this network in, not this machine alone")] = False,
    host: Annotated[str | None, typer.Option("--host", help="the address to listen on, instead of --lan")] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free")] = 0,
    https: Annotated[
        bool, typer.Option("--https", help="a self-signed certificate: threads and WebGPU need it beyond this machine")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, max=16, help="of WebAssembly")] = 1,
    webgpu: Annotated[bool, typer.Option("--webgpu", help="run on the GPU")] = False,
    samples: Annotated[int, typer.Option("--samples", min=0, help="evaluation samples at most; 0: all")] = 0,
    limit: Annotated[
        float, typer.Option("--limit", min=1, help="seconds after which a file that says nothing is stopped")
    ] = 120,
    json: Annotated[bool, typer.Option("--json", help="print each result as one line of JSON on stdout")] = False,
) -> None:
    """Show a bundle to phones: each opens a link, runs every file in its browser, and the verdict comes back here."""
    from exporter.cli import serving
    from targets.transports.browser import Address, Settings, lan_address

    if setup:
        serving.set_up()
    if bundle is None:
        if not setup:
            raise typer.BadParameter("name a bundle, or --setup", param_hint="DIR")
        return
    address = Address(host or (lan_address() if lan else "127.0.0.1"), port, https)
    serving.serve(bundle, address, Settings(samples, threads, "webgpu" if webgpu else "wasm", limit), json=json)


@app.command()
def parity(
    bundle: Bundle,
    samples: Annotated[int, typer.Option("--samples", help="samples through both whole artifacts", min=1)] = 200,
    python: Annotated[
        str | None, typer.Option("--python", metavar="PYTHON", help="a Python with another TFLite runtime")
    ] = None,
    json: Json = False,
) -> int:
    """Prove that both artifacts carry the same numbers, and show where their results part."""
    from exporter import parity as parities
    from exporter.cli import tables

    with progress_bars() as progress:
        certificate = parities.certify(bundle, samples=samples, python=python, progress=progress)
    if json:
        print_json(parities.to_dict(certificate))
    else:
        say(*tables.certificate(certificate))
    return 0 if certificate.identical else 1


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="float, or with QuantizeLinear/DequantizeLinear")],
    to: Annotated[str, typer.Option("--to", metavar="tflite|onnx", help="format to write")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="file to write")],
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="4-d inputs of the TFLite file become NHWC")
    ] = False,
    shapes: Annotated[
        list[str] | None, typer.Option("--shape", metavar="NAME=DIMS", help="fix dimensions, as in image=1,3,224,224")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="run the TFLite file against its source on a random input")
    ] = True,
    json: Json = False,
) -> None:
    """Translate an ONNX file as it is: nothing is quantized."""
    import dataclasses

    from exporter import conversion
    from exporter.cli import tables
    from exporter.recipe import parse_input

    wanted = {name: spec["shape"] for name, spec in map(parse_input, shapes or [])}
    done = conversion.convert(model, to, out, channels_last=channels_last, shapes=wanted, verify=verify)
    if json:
        print_json(dataclasses.asdict(done))
    else:
        say(*tables.converted(done))


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE_OR_BUNDLE", help=".onnx, .tflite, plan.json or a bundle")],
    json: Json = False,
) -> None:
    """Show inputs, outputs, operators, bytes, the scheme of each tensor and what runs in float."""
    from exporter import inspection
    from exporter.cli import file_tables

    found = inspection.inspect_file(path)
    if json:
        print_json(inspection.to_dict(found))
    else:
        say(*file_tables.inspection(found))


@app.command()
def report(bundle: Bundle, json: Json = False) -> None:
    """Write the bundle's report: one HTML page that needs nothing else."""
    from exporter.report import render

    page = render(bundle)
    if json:
        print_json({"report": str(page)})
    else:
        say(f"report  {page}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the recipe, for editors."""
    from exporter.recipe import schema as recipe_schema

    print_json(recipe_schema())


register(app)
