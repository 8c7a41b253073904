"""Over the system's OpenSSH client: the user's config, agent, keys and jump hosts work as they do by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from targets.transports import boot
from targets.transports.connection import Connection, Way
from targets.types import Target, TargetError

__all__ = ["explain", "open_ssh", "open_ssh_command"]

_OPTIONS = (
    "BatchMode=yes",  # never asks: nobody may be there to answer
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "EscapeChar=none",
    "LogLevel=ERROR",
)

# what OpenSSH's client says on stderr -> (what it means, what to do); {host} is the address, {word} what was matched
_SAID: Sequence[tuple[str, str, str]] = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "its host key is another than the known one: a reinstalled device, or somebody in between",
     "if you reinstalled it: ssh-keygen -R {name}, then ssh {host} once"),
    (r"Host key verification failed|No .* host key is known",
     "its host key is not known yet", "connect once by hand and compare the fingerprint: ssh {host}"),
    (r"Could not resolve hostname", "no such host name", "check the name, or use the address (hostname -I there)"),
    (r"Connection refused", "connection refused: no SSH server runs there",
     "switch SSH on there (Raspberry Pi: sudo raspi-config, Interface Options)"),
    (r"No route to host|Network is unreachable|Connection timed out|Operation timed out|timed out during banner",
     "it cannot be reached", "is it on, and on this network?"),
    (r"Permission denied|Too many authentication failures|no such identity|UNPROTECTED PRIVATE KEY",
     "it does not accept your key", "ssh-copy-id {host}, or load the key: ssh-add"),
    (r"Connection (to .* )?(closed|reset)|Broken pipe|Connection to .* timed out|client_loop|kex_exchange",
     "the connection was cut", "run it again; nothing was left on the device"),
    (r"Bad configuration option|no argument after keyword|bad .* in config",
     "your ssh config is not accepted", "ssh -G {host} says where"),
)  # fmt: skip


def open_ssh(target: Target) -> Connection:
    """address: user@host:port, or an alias of the user's ssh config."""
    host, _, port = target.address.partition(":")
    words = ["ssh", "-T", *(["-p", port] if port else []), "--", host]
    return open_ssh_command(target, words, host)


def open_ssh_command(target: Target, words: Sequence[str], host: str) -> Connection:
    """The same with other words of ssh, the last of which is the host: the emulated boards bring their own config."""
    place = words.index("--")
    options = [part for option in _OPTIONS for part in ("-o", option)]
    remote = f"sh -c {shlex.quote(boot.script(target.python))}"
    command = [*words[:place], *options, *words[place:], remote]
    return Connection(Way(target.name, command, lambda code, stderr: explain(target.name, host, code, stderr)))


def explain(name: str, host: str, code: int | None, stderr: str) -> TargetError:
    """One line for what ssh, or the shell behind it, ended with."""
    for pattern, meaning, hint in _SAID:
        if re.search(pattern, stderr):
            return TargetError(f"{name}: {meaning}", hint.format(host=host, name=host.rpartition("@")[2]))
    if code in boot.EXPLAINED:
        message, hint = boot.EXPLAINED[code]
        return TargetError(f"{name}: {message}", hint)
    if code == 255:
        last = " ".join(stderr.split()) or "ssh ended"
        return TargetError(f"{name}: the connection was cut or refused: {last}", "run it again")
    last = stderr.strip().splitlines()[-1] if stderr.strip() else "it gave no reason"
    return TargetError(f"{name}: the checker ended with code {code}: {last}", "kbit doctor --on TARGET says more")
