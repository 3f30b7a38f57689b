"""The service of systemd or launchd that keeps the engine up from log-in or boot on."""

import os
import plistlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.core.errors import Conflict, EngineUnavailable
from flows.core.private_files import write_private
from flows.core.secret_names import is_secret

_NAME: Final = "oumi-flows"
_SECONDS: Final = 60.0
_CARRIED: Final = ("OUMI_FLOWS_", "PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILE")
"""Beginnings of the names of variables that decide which engine it is."""

UNIT: Final = """\
[Unit]
Description=Oumi Flows: the Prefect server and the worker of Oumi jobs

[Service]
Type=exec
{environment}ExecStart={command} up --keep
ExecStop={command} down
# Jobs go on when the engine stops.
KillMode=process
# Each job gets a control group of its own, so that none of its processes outlives a cancel.
Delegate=yes
Restart=on-failure
RestartSec=10

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class BootService:
    """How one system is asked to keep the engine up.

    Attributes:
        path: The file that describes the service.
        content: Its content.
        start: The commands that take it up and start it.
        stop: The commands that end it and keep it from starting again.
        hint: What else a person may want to do.
    """

    path: Path
    content: str
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    hint: str = ""

    def install(self) -> None:
        """Write the file and start the service.

        Raises:
            EngineUnavailable: The system does not take it up.
            Conflict: The file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self.path, self.content)
        except OSError as error:
            raise Conflict(
                f"{self.path} cannot be written ({error.strerror})", "Correct its folder"
            ) from error
        for command in self.start:
            _run(command, f"{self.path} is written, but the system did not take it up")

    def remove(self) -> None:
        """Stop the service and delete its file. Jobs keep running.

        Raises:
            EngineUnavailable: The system does not stop it.
        """
        if not self.path.exists():
            raise Conflict(f"There is no service {self.path}", "There is nothing to remove")
        for command in self.stop:
            _run(command, f"{self.path} is still there, as its service could not be stopped")
        self.path.unlink(missing_ok=True)


def service_here(environ: Mapping[str, str], *, platform: str = sys.platform) -> BootService:
    """The service of this machine's system.

    Args:
        environ: The environment, whose settings of ours the service gets.
        platform: As Python names the system.

    Raises:
        Conflict: The system has neither systemd nor launchd.
    """
    command = str(Path(sys.executable).parent / _NAME)
    settings = {
        name: value
        for name, value in sorted(environ.items())
        if name.startswith(_CARRIED) and not is_secret(name)
    }
    home = Path(environ.get("HOME") or Path.home())
    if platform == "darwin":
        return launchd_service(command, settings, home=home)
    if platform.startswith("linux"):
        folder = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        return systemd_service(command, settings, config_home=folder)
    raise Conflict(
        f"{platform} has neither systemd nor launchd",
        "Let the system run `oumi-flows up --keep` in its own way",
    )


def systemd_service(command: str, settings: Mapping[str, str], *, config_home: Path) -> BootService:
    """A user unit of systemd."""
    lines = [f"Environment={_quote(f'{name}={value}')}\n" for name, value in settings.items()]
    unit = UNIT.format(command=_quote(command.replace("$", "$$")), environment="".join(lines))
    control = ("systemctl", "--user")
    return BootService(
        path=config_home / "systemd/user" / f"{_NAME}.service",
        content=unit,
        start=((*control, "daemon-reload"), (*control, "enable", "--now", _NAME)),
        stop=((*control, "disable", "--now", _NAME),),
        hint="It starts with your log-in; `loginctl enable-linger` lets it start with the machine.",
    )


def launchd_service(command: str, settings: Mapping[str, str], *, home: Path) -> BootService:
    """A user agent of launchd."""
    agent: dict[str, object] = {
        "Label": _NAME,
        "ProgramArguments": [command, "up", "--keep"],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "AbandonProcessGroup": True,
    }
    if settings:
        agent["EnvironmentVariables"] = dict(settings)
    path = home / "Library/LaunchAgents" / f"{_NAME}.plist"
    domain = f"gui/{os.getuid()}"
    return BootService(
        path=path,
        content=plistlib.dumps(agent, sort_keys=False).decode(),
        start=(("launchctl", "bootstrap", domain, str(path)),),
        stop=(("launchctl", "bootout", f"{domain}/{_NAME}"),),
    )


def _quote(word: str) -> str:
    """A word of a unit, in which systemd replaces ``%``."""
    plain = word.replace("%", "%%")
    if not any(char in plain for char in " \t\"'\\"):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _run(command: Sequence[str], failure: str) -> None:
    said = shlex.join(command)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise EngineUnavailable(
            f"{failure}: there is no {command[0]}", f"Run `{said}` where there is one"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailable(
            f"{failure}: `{said}` took longer than {_SECONDS:g} s", "Run it by hand"
        ) from error
    if done.returncode:
        why = " ".join((done.stderr or done.stdout).split())[-300:]
        raise EngineUnavailable(f"{failure}: {why or 'no reason given'}", f"Run `{said}` by hand")
