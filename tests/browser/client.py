"""A browser's side of the protocol without a browser, and a bundle that nothing runs."""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from exporter.bundle import Artifact, TensorSpec, package
from targets.transports.browser.server import PageServer

SAMPLES = np.arange(40, dtype=np.float32).reshape(10, 4)
LOGITS = np.eye(3, dtype=np.float32)[np.arange(10) % 3]


def tiny_bundle(out: Path) -> Path:
    """Files that nothing runs, and all that goes with them."""
    port = {"inputs": (TensorSpec("x", "float32", ("batch", 4)),), "outputs": (TensorSpec("y", "float32", ("b", 3)),)}
    files = [("float", "reference", "float.onnx"), ("onnxruntime", "candidate", "model.onnx")]
    artifacts = [Artifact(name, "onnxruntime", role, path, b"not run", **port) for name, role, path in files]
    golden = {"input.x": SAMPLES[:4], "expected.float.y": LOGITS[:4], "expected.onnxruntime.y": LOGITS[:4]}
    return package(
        out,
        name="tiny",
        artifacts=artifacts,
        inputs=[{"name": "x", "dtype": "float32", "shape": ["batch", 4], "preprocess": None}],
        outputs=[{"name": "y", "dtype": "float32", "shape": ["batch", 3], "scale": None}],
        golden=golden,
        evaluation={"input.x": SAMPLES, "labels": LOGITS.argmax(1)},
        gates={"max_drop": 0.5, "max_latency_ms": 1.0},
    ).path


class Client:
    """A browser's side of the protocol, without a browser."""

    def __init__(self, server: PageServer) -> None:
        self.server, self.cookie = server, ""
        self.port = server.server_address[1]

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.putrequest(method, path, skip_host=False, skip_accept_encoding=True)
        headers = ({"Cookie": self.cookie} if self.cookie else {}) | headers
        if body is not None and "Content-Length" not in headers:
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        with contextlib.closing(connection):
            connection.endheaders(body.encode() if isinstance(body, str) else body)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    def get(self, path: str) -> tuple[int, bytes]:
        return self.ask("GET", path)[:2]

    def post(self, path: str, body: Any = b"", **headers: str) -> tuple[int, bytes]:
        return self.ask("POST", path, body, **headers)[:2]

    def claim(self, token: str) -> int:
        status, _, headers = self.ask("POST", "/claim", {"token": token})
        self.cookie = headers.get("Set-Cookie", "").partition(";")[0]
        return status

    def token(self) -> str:
        return urlsplit(self.server.link).fragment


def send(client: Client, artifact: str, outputs: np.ndarray, **facts: Any) -> dict[str, Any]:
    for kind, count in (("golden", 4), ("evaluation", 10)):
        assert client.post(f"/outputs/{artifact}/{kind}/0/{count}", outputs[:count].tobytes())[0] == 200
    status, body = client.post(f"/artifact/{artifact}", {"errors": [], "times_ms": [2.0] * 30, **facts})
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found
