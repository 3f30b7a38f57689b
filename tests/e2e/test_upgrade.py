"""An installation of the version before the modules moved into rooms, and this one after it."""

import io
import json
import os
import subprocess
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jobs import job_config
from tests.support.stack import OUMI_FLOWS, REPOSITORY
from tests.support.waiting import eventually_sync

_FIRST_OF_THE_MOVE = "flows/core/__init__.py"
_METADATA = "Metadata-Version: 2.1\nName: oumi-flows\nVersion: 0.1.0\n"
_ENTRY_POINTS = "[prefect.collections]\noumi_flows = flows.worker\n"
_RUN = "import sys; from oumi_flows import main; sys.exit(main())"


def git(*arguments: str) -> bytes:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.fixture
def earlier(tmp_path: Path) -> list[str]:
    """The command line of the version before the move, installed beside this one."""
    commits = git("log", "--diff-filter=A", "--format=%H", "--", _FIRST_OF_THE_MOVE).split()
    shallow = git("rev-parse", "--is-shallow-repository").strip() == b"true"
    if not commits or shallow:
        pytest.skip("the history of this clone does not reach the version before the move")
    source = tmp_path / "earlier"
    archive = git("archive", f"{commits[-1].decode()}^")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source, filter="data")

    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    site = Path(next(home.glob("lib/*/site-packages")))
    # A .pth file of the packages' own folder would add this version: it is not read from there.
    (site / "earlier.pth").write_text(f"{source}\n{sysconfig.get_path('purelib')}\n")
    metadata = site / "oumi_flows-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(_METADATA)
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
    return [str(home / "bin" / "python"), "-P", "-c", _RUN]


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    env = {**os.environ, "OUMI_FLOWS_HOME": str(tmp_path / "home")}
    yield env
    subprocess.run([OUMI_FLOWS, "down"], env=env, check=True, timeout=120, capture_output=True)


@pytest.mark.engine
@pytest.mark.slow
def test_a_job_of_the_version_before_goes_on_under_this_one(
    earlier: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    def call(*arguments: str, command: list[str] | None = None) -> str:
        line = [*(command or [str(OUMI_FLOWS)]), *arguments]
        done = subprocess.run(
            line, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, f"{line[-3:]}: {done.stdout}{done.stderr}"
        return done.stdout

    def status(job_id: str) -> dict[str, object]:
        return json.loads(call("show", job_id, "--json"))

    go = tmp_path / "go"
    config = job_config(tmp_path, "long", f"echo pid $$; until [ -e '{go}' ]; do sleep 0.2; done")
    call("up", command=earlier)
    job_id = json.loads(call("run", str(config), "--json", command=earlier))["job_id"]
    eventually_sync(lambda: status(job_id)["state"] == "running", timeout=120)
    before = call("logs", job_id)

    call("up")  # this version: it replaces the worker and what is deployed

    assert status(job_id)["state"] == "running"
    assert call("logs", job_id) == before
    second = json.loads(call("run", str(job_config(tmp_path, "short", "exit 0")), "--json"))
    go.touch()
    eventually_sync(lambda: status(job_id)["state"] == "succeeded", timeout=120)
    eventually_sync(lambda: status(second["job_id"])["state"] == "succeeded", timeout=120)
    assert status(job_id)["attempt"] == 1
