"""Addresses that stand for a device without a file: ssh://user@host:port, adb:SERIAL, emulated:pi5 …"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from targets.types import Target, TargetError

__all__ = ["ADDRESSES", "parse_address"]

ADDRESSES = ("local", "ssh://USER@HOST[:PORT]", "adb[:SERIAL]", "emulated:pi4", "emulated:pi5", "browser[:lan]")
_RUNTIMES = {"onnxruntime": "1.18", "tflite": "2.14"}  # the oldest that read opset 21 and int8 per channel
_ALIASES = {"local": "host", "emulated:pi4": "emulated-pi4", "emulated:pi5": "emulated-pi5", "adb": "android-arm64"}
_BOARDS = ("pi4", "pi5")


def parse_address(text: str) -> Target | str:
    """The Target that an address stands for, or the name to look up. Raises TargetError for a broken address."""
    if text in _ALIASES:
        return _ALIASES[text]
    if text.startswith("ssh:"):
        return _ssh(text)
    if text.startswith("adb:"):
        return _adb(text)
    if text.startswith("browser:"):
        return Target(text, "a browser", "browser", text.removeprefix("browser:"), runtimes=_RUNTIMES)
    if text.startswith("emulated"):
        if text.partition(":")[1]:
            raise TargetError(f"unknown board in {text!r}", f"expected {' or '.join('emulated:' + b for b in _BOARDS)}")
        return text
    if "://" in text:
        raise TargetError(f"unknown kind of address {text!r}", f"expected {', '.join(ADDRESSES)}")
    return text


def _ssh(text: str) -> Target:
    """ssh://[user@]host[:port]; a host may be an alias of the user's ~/.ssh/config."""
    hint = "expected ssh://user@host or ssh://user@host:port"
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise TargetError(f"the port in {text!r} is not a number from 1 to 65535", hint) from error
    host = parts.hostname or ""
    if parts.path.strip("/") or parts.query or parts.fragment or parts.password is not None or not host or port == 0:
        raise TargetError(f"cannot read the address {text!r}", hint)
    # what starts with a dash would be an option of ssh; the rest of the set is what host and user names hold
    plain = r"[A-Za-z0-9_][A-Za-z0-9_.%:\-]*"
    if not re.fullmatch(plain, host) or not re.fullmatch(plain, parts.username or "x"):
        raise TargetError(f"the user or host in {text!r} holds a character that none has", hint)
    name = parts.netloc.rpartition("@")[2].removesuffix(f":{port}")  # hostname is lower-cased, aliases are not
    address = (f"{parts.username}@" if parts.username else "") + name + (f":{port}" if port else "")
    return Target(f"ssh://{address}", f"{name} over SSH", "ssh", address, runtimes=_RUNTIMES)


def _adb(text: str) -> Target:
    serial = text.removeprefix("adb:")
    if not re.fullmatch(r"[A-Za-z0-9_.:\-]+", serial) or serial.startswith("-"):
        raise TargetError(f"cannot read the serial number in {text!r}", "adb devices lists them; expected adb:SERIAL")
    return Target(text, f"Android device {serial}", "adb", serial, runtimes=_RUNTIMES)
