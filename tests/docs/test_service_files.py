"""The files that start the engine with the machine are right, and are those of the page."""

import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.stack import OUMI_FLOWS, REPOSITORY

UNIT = REPOSITORY / "examples/service/oumi-flows.service"
AGENT = REPOSITORY / "examples/service/oumi-flows.plist"


@pytest.mark.parametrize(("path", "language"), [(UNIT, "ini"), (AGENT, "xml")])
def test_the_page_shows_the_file(path: Path, language: str) -> None:
    page = (REPOSITORY / "docs/schedules.md").read_text()
    (shown,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown == path.read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    unit = tmp_path / UNIT.name
    here = UNIT.read_text().replace("%h/oumi-flows/.venv/bin/oumi-flows", str(OUMI_FLOWS))
    unit.write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_launchd_takes_the_agent() -> None:
    agent = plistlib.loads(AGENT.read_bytes())
    assert agent["ProgramArguments"][1:] == ["up", "--keep"]
    assert agent["RunAtLoad"] is True
    assert agent["AbandonProcessGroup"] is True
