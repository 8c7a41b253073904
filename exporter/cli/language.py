"""Commands for language models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.app import Bundle
from exporter.cli.options import Json
from exporter.cli.output import print_json, say

__all__ = ["generate"]


def generate(
    bundle: Bundle,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="text to go on from; - reads stdin")],
    artifact: Annotated[
        str | None,
        typer.Option("--artifact", metavar="NAME", help="onnxruntime, tflite or float; default: what runs here"),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, metavar="N", help="write at most so many")] = 200,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 always takes the likeliest token")
    ] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="only among the k likeliest; 0: all")] = 0,
    top_p: Annotated[
        float, typer.Option("--top-p", min=0.0, max=1.0, help="only among the likeliest of this probability in all")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the choices")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    json: Json = False,
) -> None:
    """Write text with a language model, as it comes."""
    from exporter.lm.generation import Sampling, open_writer
    from exporter.reference import native_silence

    text = sys.stdin.read() if prompt == "-" else prompt
    with native_silence():
        writer = open_writer(Path(bundle), artifact, threads)
    found = writer.write(text, tokens, Sampling(temperature, top_k, top_p, seed))
    if json:
        body = {
            "prompt": text,
            "text": "".join(found),
            "artifact": writer.artifact,
            "prompt_tokens": writer.prompt_tokens,
        }
        body |= {"tokens": writer.written, "first_token_ms": writer.first_seconds * 1e3, "decode_rate": writer.rate}
        print_json(body)
        return
    sys.stdout.write(text)
    for piece in found:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    rate = f"{writer.rate:.0f} tokens a second" if writer.rate else "no second token"
    say(
        f"{writer.artifact}: {writer.written} tokens, the first after {writer.first_seconds * 1e3:.1f} ms, {rate}",
        err=True,
    )
