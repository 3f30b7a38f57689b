"""The service of systemd or launchd: what it runs, and what is said where it cannot be set up."""

import plistlib
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.core.errors import Conflict, EngineUnavailable
from mcp_server.engine.boot_service import launchd_service, service_here, systemd_service
from tests.support.stack import REPOSITORY


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Path]:
    """Puts a program into the path that notes its arguments; returns the notes."""

    def put(name: str, code: int) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        notes = tmp_path / "calls"
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "$@" >> {notes}\necho no bus >&2\nexit {code}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return notes

    return put


def test_the_unit_is_the_example() -> None:
    example = (REPOSITORY / "examples/service/oumi-flows.service").read_text()
    unit = systemd_service("%h/oumi-flows/.venv/bin/oumi-flows", {}, config_home=Path("/c"))
    assert unit.content.replace("%%h", "%h") == example


def test_the_agent_is_the_example(tmp_path: Path) -> None:
    example = (REPOSITORY / "examples/service/oumi-flows.plist").read_bytes()
    command = "/Users/me/oumi-flows/.venv/bin/oumi-flows"
    agent = launchd_service(command, {}, home=tmp_path)
    assert plistlib.loads(agent.content.encode()) == plistlib.loads(example)
    with_home = launchd_service(command, {"OUMI_FLOWS_HOME": "/h"}, home=tmp_path)
    variables = plistlib.loads(with_home.content.encode())["EnvironmentVariables"]
    assert variables == {"OUMI_FLOWS_HOME": "/h"}


def test_the_unit_has_the_settings_but_no_secret_and_quotes_what_systemd_would_read() -> None:
    environ = {
        "HOME": "/home/me",
        "OUMI_FLOWS_HOME": "/data/100% mine",
        "OUMI_FLOWS_HTTP_TOKEN": "hidden",
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
        "PREFECT_API_KEY": "hidden",
        "OTHER": "1",
    }
    unit = service_here(environ, platform="linux")
    assert unit.path == Path("/home/me/.config/systemd/user/oumi-flows.service")
    lines = [line for line in unit.content.splitlines() if line.startswith("Environment=")]
    assert lines == [
        'Environment="OUMI_FLOWS_HOME=/data/100%% mine"',
        "Environment=PREFECT_API_URL=http://127.0.0.1:4200/api",
    ]


def test_it_is_installed_and_removed(tmp_path: Path, program: Callable[[str, int], Path]) -> None:
    notes = program("systemctl", 0)
    unit = systemd_service("/opt/oumi-flows", {}, config_home=tmp_path / "config")
    unit.install()
    unit.install()
    assert "ExecStart=/opt/oumi-flows up --keep" in unit.path.read_text()
    unit.remove()
    assert not unit.path.exists()
    assert notes.read_text().splitlines() == [
        *(["--user daemon-reload", "--user enable --now oumi-flows"] * 2),
        "--user disable --now oumi-flows",
    ]
    with pytest.raises(Conflict, match="There is no service"):
        unit.remove()


def test_a_system_that_refuses_is_named_with_the_command_to_run(
    tmp_path: Path, program: Callable[[str, int], Path]
) -> None:
    program("systemctl", 1)
    unit = systemd_service("/opt/oumi-flows", {}, config_home=tmp_path / "config")
    with pytest.raises(EngineUnavailable) as caught:
        unit.install()
    assert "no bus" in caught.value.what
    assert caught.value.next_step == "Run `systemctl --user daemon-reload` by hand"


def test_a_machine_without_the_program_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="there is no launchctl"):
        launchd_service("/opt/oumi-flows", {}, home=tmp_path).install()
    with pytest.raises(Conflict, match="neither systemd nor launchd"):
        service_here({}, platform="win32")
