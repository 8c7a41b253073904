"""A self-signed certificate for one run of the page, made by the system's openssl."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from targets.types import TargetError

__all__ = ["Certificate", "make_certificate"]

_DAYS = "7"


@dataclass(frozen=True, slots=True)
class Certificate:
    """context    for the server
    fingerprint   SHA-256 of the certificate, as browsers show it
    spki          SHA-256 of its public key in base64, by which Chromium can be told to trust this one alone
    """

    context: ssl.SSLContext
    fingerprint: str
    spki: str


def make_certificate(host: str) -> Certificate:
    """For one IP address or name. The key never outlives this call on disk. Raises TargetError without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise TargetError(
            "openssl is not installed, and https needs it", "sudo apt install openssl, or leave out https"
        )
    kind = "IP" if host.replace(".", "").isdigit() or ":" in host else "DNS"
    with tempfile.TemporaryDirectory() as scratch:
        key, made = Path(scratch) / "key.pem", Path(scratch) / "certificate.pem"
        request = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        request += ["-keyout", str(key), "-out", str(made), "-days", _DAYS, "-subj", "/CN=kbit phone page"]
        request += ["-addext", f"subjectAltName={kind}:{host}", "-addext", "extendedKeyUsage=serverAuth"]
        _run(request)
        public = _run([openssl, "pkey", "-in", str(key), "-pubout", "-outform", "DER"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(made, key)
        der = ssl.PEM_cert_to_DER_cert(made.read_text("ascii"))
    digest = hashlib.sha256(der).hexdigest().upper()
    fingerprint = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
    return Certificate(context, fingerprint, base64.b64encode(hashlib.sha256(public).digest()).decode())


def _run(command: list[str]) -> bytes:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise TargetError(f"openssl made no certificate: {said[-1] if said else done.returncode}", "leave out https")
    return done.stdout
