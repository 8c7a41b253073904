"""Targets: shipped, users' own, and addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from targets import TargetError, get_target, list_targets
from targets.transports import TRANSPORTS, open_transport


@pytest.fixture(autouse=True)
def no_files_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "kbit" / "targets"
    folder.mkdir(parents=True)
    return folder


def test_shipped_targets_say_where_their_facts_come_from() -> None:
    targets = list_targets()
    assert {"host", "raspberry-pi-5", "raspberry-pi-zero-2w", "android-arm64", "browser"} <= {t.name for t in targets}
    for target in targets:
        assert target.description
        assert target.source
        assert set(target.runtimes) <= {"onnxruntime", "tflite"}


@pytest.mark.parametrize(
    ("text", "transport", "address"),
    [
        ("local", "local", ""),
        ("host", "local", ""),
        ("ssh://pi@kitchen.local", "ssh", "pi@kitchen.local"),
        ("ssh://kitchen", "ssh", "kitchen"),
        ("ssh://Kitchen", "ssh", "Kitchen"),
        ("ssh://pi@10.0.0.7:2222", "ssh", "pi@10.0.0.7:2222"),
        ("adb", "adb", ""),
        ("adb:emulator-5554", "adb", "emulator-5554"),
        ("adb:10.0.0.8:5555", "adb", "10.0.0.8:5555"),
        ("emulated:pi4", "emulated", "pi4"),
        ("emulated:pi5", "emulated", "pi5"),
        ("browser", "browser", ""),
        ("raspberry-pi-4", None, ""),
    ],
)
def test_addresses(text: str, transport: str | None, address: str) -> None:
    target = get_target(text)
    assert (target.transport, target.address) == (transport, address)
    assert target.runtimes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hots", "did you mean 'host'"),
        ("raspbery-pi-5", "raspberry-pi-5"),
        ("ssh://", "ssh://user@host"),
        ("ssh://-oProxyCommand=x", "a character that none has"),
        ("ssh://a;b", "a character that none has"),
        ("ssh://pi@host:99999", "not a number from 1 to 65535"),
        ("ssh://pi@host/path", "cannot read the address"),
        ("ssh://pi:secret@host", "cannot read the address"),
        ("telnet://host", "unknown kind of address"),
        ("emulated:pi3", "emulated:pi4 or emulated:pi5"),
        ("adb:-s", "serial number"),
    ],
)
def test_a_name_that_is_none(text: str, said: str) -> None:
    with pytest.raises(TargetError, match=said.replace("[", "\\[")):
        get_target(text)


def test_users_add_their_own(no_files_of_the_user: Path, tmp_path: Path) -> None:
    (no_files_of_the_user / "kitchen.toml").write_text('base = "raspberry-pi-5"\naddress = "ssh://pi@kitchen:2200"\n')
    kitchen = get_target("kitchen")
    assert (kitchen.transport, kitchen.address) == ("ssh", "pi@kitchen:2200")
    assert kitchen.isa == get_target("raspberry-pi-5").isa
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "kitchen.toml").write_text('description = "by the recipe"\ntransport = "local"\n')
    assert get_target("kitchen", tmp_path).description == "by the recipe"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adress = 'x'", r"mine.toml: unknown key 'adress'; did you mean 'address'"),
        ("cores = 'four'", "mine.toml: cores = 'four'; expected a whole number"),
        ("isa = 'neon'", "expected a list"),
        ("isa = [1]", "expected a list"),
        ("base = 'nonesuch'", "is no known target"),
        ("transport = 'telnet'", "expected local, ssh"),
        ("x = ", "is not TOML"),
    ],
)
def test_a_broken_file_is_named(text: str, said: str, no_files_of_the_user: Path) -> None:
    (no_files_of_the_user / "mine.toml").write_text(text)
    with pytest.raises(TargetError, match=said):
        list_targets()


def test_a_board_without_an_address_says_how_to_give_one() -> None:
    with pytest.raises(TargetError, match="no address is known; give one: --on ssh://user@host"):
        open_transport(get_target("raspberry-pi-5"))


def test_every_transport_of_a_shipped_target_is_known() -> None:
    known = set(TRANSPORTS) | {"adb", "emulated", "browser"}
    assert {t.transport for t in list_targets()} - {None} <= known
