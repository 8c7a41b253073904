"""The server behind the page, as an attacker and as a phone on a bad network would talk to it. No browser needed."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets import TargetError
from targets.agent.manifest import verify
from targets.transports.browser.server import PageServer
from targets.transports.browser.visit import Visit
from targets.transports.browser.work import Settings, Work
from tests.browser.client import LOGITS, SAMPLES, Client, send


@pytest.fixture
def visits() -> list[Visit]:
    return []


@pytest.fixture
def server(request: pytest.FixtureRequest, tiny: Path, visits: list[Visit]) -> Iterator[PageServer]:
    work = Work(tiny, verify(tiny), Settings())
    done: list[dict[str, Any]] = []

    def visit() -> Visit:
        visits.append(Visit(work, lambda *_: None, done.append))
        return visits[-1]

    page = PageServer(("127.0.0.1", 0), visit, reuse=getattr(request, "param", True))
    page.serve()
    yield page
    page.close()


@pytest.fixture
def client(server: PageServer) -> Client:
    found = Client(server)
    assert found.claim(found.token()) == 200
    return found


def test_it_listens_on_loopback_alone(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.link.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("server", [False, True], ids=["one visit", "many"], indirect=True)
def test_a_token_works_once(server: PageServer) -> None:
    first, second = Client(server), Client(server)
    token = first.token()
    assert first.claim("wrong") == second.claim("") == 403
    assert first.claim(token) == 200
    assert second.claim(token) == 403
    assert second.get("/job")[0] == 403
    assert first.get("/job")[0] == 200
    if server.reuse:
        assert second.token() not in {"", token}
        assert second.claim(second.token()) == 200
        assert second.cookie != first.cookie
    else:
        assert second.token() == ""
        assert second.claim("") == 403


@pytest.mark.parametrize("server", [False, True], ids=["one visit", "many"], indirect=True)
def test_racing_for_one_token_only_one_gets_it(server: PageServer) -> None:
    clients, found = [Client(server) for _ in range(8)], []
    token = clients[0].token()
    threads = [threading.Thread(target=lambda c=c: found.append(c.claim(token))) for c in clients]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [403] * 7


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/job"),
        ("GET", "/bundle/model.onnx"),
        ("GET", "/samples/evaluation/0/10"),
        ("POST", "/outputs/float/golden/0/4"),
        ("POST", "/artifact/float"),
        ("POST", "/finish"),
        ("POST", "/alive"),
    ],
)
@pytest.mark.parametrize("cookie", ["", "kbit_{port}=guess", "kbit_{port}=", "x", '"', "kbit_1=a; kbit_{port}=\u00e9"])
def test_without_its_cookie_there_is_nothing(server: PageServer, method: str, path: str, cookie: str) -> None:
    stranger = Client(server)
    stranger.cookie = cookie.format(port=stranger.port)
    status, body, _ = stranger.ask(method, path, b"" if method == "POST" else None)
    assert status == 403
    assert b"tiny" not in body


def test_the_shell_of_the_page_tells_nothing_of_the_bundle(server: PageServer) -> None:
    stranger = Client(server)
    for path in ("/", "/index.html", "/page.js", "/page.css", "/icon.svg", "/worker.js"):
        status, body = stranger.get(path)
        assert status == 200
        assert b"tiny" not in body


PATHS = [
    "/..", "/../", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/....//etc/passwd",
    "//etc/passwd", "/etc/passwd", "/bundle", "/bundle/", "/bundle/.", "/bundle/..", "/bundle/../manifest.json",
    "/bundle/%2e%2e/x", "/bundle//etc/passwd", "/bundle/manifest.json", "/bundle/check.pyz", "/bundle/model.onnx/",
    "/bundle/evaluation.npz", "/runtime", "/runtime/", "/runtime/x/ort.wasm.min.mjs", "/page.js/", "/./page.js",
    "/page.js?x", "/page.js%00", "/samples", "/samples/golden", "/samples/golden/0/99", "/samples/golden/3/1",
    "/samples/evaluation/-1/2", "/samples/secret/0/1", "/samples/golden/0/4/..", "/__init__.py", "/phone",
    "\\..\\x", "*",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_or_lists_anything(client: Client, path: str) -> None:
    for method in ("GET", "POST"):
        status, body, _ = client.ask(method, path, b"" if method == "POST" else None)
        assert status in {400, 404}, path
        assert b"root:" not in body
        assert len(body) < 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods_are_refused(client: Client, method: str) -> None:
    assert client.ask(method, "/job")[0] == 501


@pytest.mark.parametrize("path", ["/", "/nothing", "/job"])
def test_every_answer_carries_the_headers_that_isolate_the_page(client: Client, path: str) -> None:
    headers = client.ask("GET", path)[2]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(server: PageServer) -> None:
    client = Client(server)
    cookie = client.ask("POST", "/claim", {"token": client.token()})[2]["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}


def test_another_site_cannot_post(client: Client) -> None:
    for site in ("cross-site", "same-site", "none"):
        assert client.post("/finish", {}, Sec_Fetch_Site=site)[0] == 403
        assert client.post("/claim", {}, Sec_Fetch_Site=site)[0] == 403


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/claim", "65537", 413),
        ("/finish", "65537", 413),
        ("/finish", "999999999999", 413),
        ("/finish", "9" * 40, 411),
        ("/finish", "-1", 411),
        ("/finish", "x", 411),
        ("/finish", "", 411),
        ("/alive", "1", 413),
        ("/artifact/float", "65537", 413),
        ("/outputs/float/golden/0/4", "49", 413),
        ("/outputs/float/evaluation/0/10", "1000000", 413),
    ],
)
def test_a_body_over_its_limit_is_not_read(client: Client, path: str, length: str, status: int) -> None:
    """The server answers before a byte of the body is sent, and closes."""
    assert client.ask("POST", path, None, Content_Length=length)[0] == status


def test_a_body_without_a_length_is_refused(client: Client) -> None:
    assert client.ask("POST", "/finish", None)[0] == 411
    assert client.ask("POST", "/finish", None, Transfer_Encoding="chunked")[0] == 411
    assert client.ask("POST", "/finish", None, Transfer_Encoding="chunked", Content_Length="2")[0] == 411


@pytest.mark.parametrize(
    "body", ["", "[]", "x", "1", "{", "[" * 60000, '{"x": }', "\udcff".encode("utf-8", "surrogatepass")]
)
def test_json_that_is_none_is_refused(client: Client, body: str) -> None:
    assert client.post("/finish", body)[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        {"times_ms": "x"},
        {"times_ms": [1] * 1001},
        {"times_ms": ["1"]},
        {"times_ms": [None]},
        {"ready_ms": "fast"},
        {"ready_ms": True},
        {"errors": "x"},
        {"errors": [1]},
        {"errors": ["x"] * 21},
        {"variant": 3},
    ],
)
def test_facts_of_another_form_are_refused(client: Client, body: dict[str, Any]) -> None:
    assert client.post("/artifact/float", body)[0] == 400
    assert client.post("/artifact/float", '{"ready_ms": NaN}')[0] == 400
    assert client.post("/artifact/float", '{"first_ms": 1e999}')[0] == 400


@pytest.mark.parametrize("path", ["nonesuch/golden/0/4", "float/golden/0/5", "float/golden/1/3", "float/golden/4/4"])
def test_outputs_that_nobody_asked_for_are_refused(client: Client, path: str) -> None:
    assert client.post(f"/outputs/{path}", b"\0" * 12)[0] == 404


def test_what_was_sent_is_judged_here(client: Client, visits: list[Visit]) -> None:
    job = json.loads(client.get("/job")[1])
    assert job["samples"] == {"golden": 4, "evaluation": 10}
    raw = client.get("/samples/evaluation/0/10")[1]
    assert raw == SAMPLES.tobytes() + LOGITS.argmax(1).astype("<i8").tobytes()
    facts = send(client, "float", LOGITS)
    assert (facts["metric"], facts["golden"]["top1"]) == (100.0, 1.0)
    assert send(client, "onnxruntime", LOGITS[:, ::-1])["metric"] < 50
    verdict = json.loads(client.post("/finish", {"browser": "Test 1", "cores": 4})[1])
    assert not verdict["passed"]
    assert verdict["artifacts"]["onnxruntime"]["browser_latency_ms"] == {"n": 30, "min": 2.0, "p50": 2.0}
    assert any("max_drop" in reason for reason in verdict["reasons"])
    assert visits[0].over.wait(10)


class Here:
    """What the host gave, where it is done."""

    problem = ""

    def __init__(self, outputs: np.ndarray) -> None:
        kinds = {"golden": outputs[:4], "evaluation": outputs}
        self._found = {f"{name}/{kind}.y": kinds[kind] for name in ("float", "onnxruntime") for kind in kinds}

    def wait(self) -> dict[str, np.ndarray]:
        return self._found

    so_far = wait


@pytest.mark.parametrize(("off", "noted"), [(0, False), (1e-5, False), (0.01, True)])
def test_outputs_far_from_the_hosts_are_noted(off: float, noted: bool, client: Client, visits: list[Visit]) -> None:
    visits[0].work.host = Here(LOGITS + np.float32(off))  # type: ignore[assignment]
    client.get("/job")
    facts = send(client, "float", LOGITS)
    assert facts["host"]["samples"] == 10
    send(client, "onnxruntime", LOGITS)
    verdict = json.loads(client.post("/finish", {})[1])
    assert verdict["passed"]
    assert any("further from the host's" in note for note in verdict["notes"]) is noted


def test_outputs_that_are_not_numbers_are_no_pass(client: Client) -> None:
    client.get("/job")
    send(client, "float", LOGITS)
    send(client, "onnxruntime", np.full_like(LOGITS, np.nan))
    verdict = json.loads(client.post("/finish", {})[1])
    assert not verdict["passed"]


def test_missing_outputs_are_no_pass(client: Client) -> None:
    client.get("/job")
    client.post("/outputs/onnxruntime/golden/0/4", LOGITS[:4].tobytes())
    facts = json.loads(client.post("/artifact/onnxruntime", {"errors": [], "times_ms": [1.0] * 30})[1])
    assert facts["errors"] == ["the browser did not send all outputs"]
    verdict = json.loads(client.post("/finish", {})[1])
    assert "float" in verdict["artifacts"]
    assert verdict["artifacts"]["float"]["errors"] == ["the browser did not run it"]
    assert not verdict["passed"]


def test_a_page_loaded_again_starts_anew(client: Client) -> None:
    client.get("/job")
    send(client, "float", LOGITS)
    client.get("/job")
    verdict = json.loads(client.post("/finish", {})[1])
    assert verdict["artifacts"]["float"]["errors"] == ["the browser did not run it"]


def test_texts_of_a_browser_cannot_steer_a_terminal(client: Client) -> None:
    client.get("/job")
    client.post("/artifact/float", {"errors": ["\x1b[2J\x1b]0;x\x07 gone\r\n" + "x" * 999]})
    verdict = json.loads(client.post("/finish", {"browser": "\x1b[31mred\u202e"})[1])
    said = [*verdict["artifacts"]["float"]["errors"], verdict["device"]["browser"]]
    assert all(text.isprintable() and len(text) <= 300 for text in said)


def test_rubbish_on_the_wire_leaves_it_standing(server: PageServer) -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100, b"A" * 70000):
        with socket.create_connection(("127.0.0.1", server.server_address[1])) as wire:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(65536):
                pass
    assert Client(server).get("/")[0] == 200


def test_too_many_connections_are_turned_away(server: PageServer) -> None:
    held = [socket.create_connection(("127.0.0.1", server.server_address[1])) for _ in range(64)]
    while answers(server):  # the last of the 64 may still be on their way
        pass
    for wire in held:
        wire.close()
    while not answers(server):
        pass


def answers(server: PageServer) -> bool:
    try:
        return Client(server).get("/")[0] == 200
    except (http.client.HTTPException, OSError):
        return False


def test_nothing_is_answered_after_the_end(tiny: Path) -> None:
    work = Work(tiny, verify(tiny), Settings())
    page = PageServer(("127.0.0.1", 0), lambda: Visit(work, lambda *_: None, lambda _: None), reuse=False)
    page.serve()
    with socket.create_connection(page.server_address) as kept:
        kept.sendall(b"GET /icon.svg HTTP/1.1\r\n\r\n")
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200")
        page.close()
        assert not answers(page)
        while kept.recv(1 << 16):  # what was on its way, then the end
            pass


def test_an_address_in_use_is_said(server: PageServer) -> None:
    with pytest.raises(TargetError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*another --port"):
        PageServer(("127.0.0.1", server.server_address[1]), lambda: None, reuse=False)  # type: ignore[arg-type, return-value]
