"""Take the pictures of the README: a session in a terminal, and the job's page in the Prefect UI.

    make pictures

Trains the tiny model of examples/tiny on an engine of its own, in a home folder that is removed at
the end, and writes docs/pictures/terminal.svg and docs/pictures/prefect.png. Needs Chromium.
"""

import asyncio
import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mcp_server.engine.connection import Connection  # noqa: E402
from tests.support.browser import CHROMIUM, log_in, opened  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
COLUMNS, LINES = 80, 40
_STEP = re.compile(r"step (\d+) of (\d+)")


class Terminal:
    """A terminal of 80 columns, in a home folder that its picture shows as ``~``.

    Args:
        home: The folder.
        environ: The environment of its commands.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self._home = home
        self._environ = dict(environ)
        self._has_run = False
        self.screen = Console(record=True, width=COLUMNS, file=io.StringIO())

    def run(self, *command: str) -> None:
        """Run a command, and keep what it leaves on the screen."""
        if self._has_run:
            self.screen.print()
        self._has_run = True
        self.screen.print(Text(f"$ {' '.join(command)}", style="bold"))
        shown = _record(list(command), self._environ, cwd=self._home / "project")
        for line in _lines_left(shown.replace(str(self._home), "~")):
            self.screen.print(Text.from_ansi(line))

    def ask(self, *command: str) -> Any:
        """Run a command that answers in JSON; show nothing."""
        answer = subprocess.run(
            [*command, "--json"], env=self._environ, stdout=subprocess.PIPE, check=True
        )
        return json.loads(answer.stdout)


def main() -> None:
    if CHROMIUM is None:
        sys.exit("No Chromium: install it, as `make test` does")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="oumi-flows-pictures-") as folder:
        home = Path(folder).resolve()
        environ = _environ(home)
        _make_project(home / "project", environ)
        terminal = Terminal(home, environ)
        try:
            subprocess.run(["oumi-flows", "up", "--wait"], env=environ, check=True)
            _take(terminal, home)
        finally:
            subprocess.run(["oumi-flows", "down"], env=environ, check=True)
    for picture in sorted(PICTURES.iterdir()):
        print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size / 1000:.0f} kB")


def _environ(home: Path) -> dict[str, str]:
    """The environment of a person whose home is `home`, without settings of their own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OUMI_", "PREFECT_", "SKYPILOT_"))
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {
        **kept,
        "HOME": str(home),
        "PATH": path,
        "HF_HUB_OFFLINE": "1",
        "OUMI_FLOWS_ENGINE_TIMEOUT_SECONDS": "600",  # a busy machine
        "TERM": "xterm-256color",
    }


def _make_project(folder: Path, environ: Mapping[str, str]) -> None:
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "tiny" / "train.yaml", folder)
    make = [sys.executable, str(ROOT / "examples" / "tiny" / "make_tiny.py"), "data"]
    subprocess.run(make, cwd=folder, env=dict(environ), check=True)


def _take(terminal: Terminal, home: Path) -> None:
    terminal.run("oumi-flows", "run", "train.yaml", "--job-name", "tiny")
    job_id = terminal.ask("oumi-flows", "jobs")["jobs"][0]["job_id"]
    terminal.run("oumi-flows", "watch", job_id[:8])
    terminal.run("oumi-flows", "jobs")
    terminal.screen.save_svg(str(PICTURES / "terminal.svg"), title="oumi-flows")
    job = terminal.ask("oumi-flows", "show", job_id)
    auth = (home / ".oumi-flows" / "engine" / "auth").read_text().strip()
    connection = Connection(api_url="", ui_url="", auth_string=auth, embedded=True)
    asyncio.run(_photograph(job, connection))


async def _photograph(job: Mapping[str, Any], connection: Connection) -> None:
    """Take the job's page with its timeline and its progress."""
    async with opened(job["url"]) as page:
        page.set_default_timeout(120_000)
        await page.set_viewport_size({"width": 1280, "height": 960})
        await log_in(page, connection)
        await page.get_by_text("Completed", exact=True).first.wait_for()
        await page.get_by_role("tab", name="Artifacts").click()
        await page.get_by_text("step 60 of 60").first.wait_for()
        await page.wait_for_load_state("networkidle")
        await page.screenshot(path=PICTURES / "prefect.png")


def _record(command: list[str], environ: dict[str, str], *, cwd: Path) -> str:
    """Run a command on a terminal of its own; return all that it writes."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, env=environ, cwd=cwd, stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    written = b""
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:  # the last process closed its side
            break
        if not block:
            break
        written += block
    os.close(parent)
    if process.wait():
        sys.exit(f"{' '.join(command)} failed:\n{written.decode()}")
    return written.decode()


def _lines_left(written: str) -> list[str]:
    """The lines that stay on the screen, with a progress bar as it was at half time."""
    lines: list[str] = []
    for line in re.sub(r"\x1b\[\?25[lh]", "", written).replace("\r\n", "\n").split("\n"):
        # A bar that is done takes itself away: the line above is erased.
        if lines and "\x1b[1A\x1b[2K" in line:
            lines[-1] = _half_time(lines[-1])
            lines = [kept for kept in lines if kept]
            line = line.rpartition("\x1b[2K")[2]  # noqa: PLW2901
        lines.append(line)
    return [line.rpartition("\r\x1b[2K")[2] for line in lines if line]


def _half_time(frames: str) -> str:
    """The state of a rewritten line at half of its steps; empty if it has no steps."""
    for frame in frames.split("\r\x1b[2K"):
        step = _STEP.search(frame)
        if step and 2 * int(step[1]) >= int(step[2]):
            return frame
    return ""


if __name__ == "__main__":
    main()
