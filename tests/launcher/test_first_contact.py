"""What a launch says when it does not reach its cluster: nothing was submitted."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows.core.errors import ClusterUnreachable, LaunchFailed, NothingSubmitted
from flows.core.settings import Settings
from flows.launcher.sky.backend import SkyBackend
from flows.launcher.slurm.backend import SlurmBackend
from tests.launcher.contract.subjects import new_key
from tests.launcher.fake_sky import FakeSky

ADDRESS = "me@there"
JOB = yaml.safe_dump({"name": "j", "resources": {"cloud": "slurm"}, "run": "true"})

Ssh = Callable[[str], None]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    """Puts a script in the place of ssh."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))

    def script(text: str) -> None:
        program = folder / "ssh"
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return script


@pytest.fixture
def backend(tmp_path: Path) -> SlurmBackend:
    return SlurmBackend("slurm", Settings(home=tmp_path / "home"))


@pytest.mark.parametrize(
    "said",
    [
        "ssh: Could not resolve hostname there: Name or service not known",
        "me@there: Permission denied (publickey,password).",
        "No ED25519 host key is known for there and you have requested strict checking.\n"
        "Host key verification failed.",
        "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures",
        "me@jump: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535",
    ],
)
def test_a_login_node_that_does_not_let_us_in_fails_the_launch_for_good(
    ssh: Ssh, backend: SlurmBackend, said: str
) -> None:
    ssh(f"echo '{said}' >&2; exit 255")
    with pytest.raises(LaunchFailed, match=said.splitlines()[-1][:30].replace("(", r"\(")):
        backend.reach(ADDRESS)
    # Of a job that may be there this says nothing.
    with pytest.raises(ClusterUnreachable):
        backend.find(ADDRESS, new_key())


@pytest.mark.parametrize(
    "said",
    [
        "ssh: connect to host there port 22: Connection refused",
        "ssh: connect to host there port 22: Connection timed out",
        "ssh: Could not resolve hostname there: Temporary failure in name resolution",
    ],
)
def test_a_login_node_that_may_come_back_is_only_unreachable(
    ssh: Ssh, backend: SlurmBackend, said: str
) -> None:
    ssh(f"echo '{said}' >&2; exit 255")
    with pytest.raises(ClusterUnreachable, match=said[:20]):
        backend.reach(ADDRESS)
    with pytest.raises(NothingSubmitted, match=said[:20]):
        backend.launch(JOB, cluster_name=ADDRESS, key=new_key())


def test_a_login_node_that_runs_nothing_fails_the_launch(ssh: Ssh, backend: SlurmBackend) -> None:
    ssh("echo 'This account is currently not available.' >&2; exit 1")
    with pytest.raises(LaunchFailed, match="not available"):
        backend.reach(ADDRESS)


def test_of_a_connection_that_breaks_at_the_submission_nothing_is_known(
    ssh: Ssh, backend: SlurmBackend, tmp_path: Path
) -> None:
    # The first script finds no job, the second is the submission.
    ssh(
        f'text=$(cat); [ -e {tmp_path}/met ] && {{ echo "Broken pipe" >&2; exit 255; }}\n'
        f"touch {tmp_path}/met; grep -om1 '[0-9a-f]\\{{32\\}}' <<<\"$text\""
    )
    with pytest.raises(ClusterUnreachable, match="Broken pipe") as raised:
        backend.launch(JOB, cluster_name=ADDRESS, key=new_key())
    assert not isinstance(raised.value, NothingSubmitted)


def test_a_sky_server_that_is_away_at_the_launch_was_given_nothing(tmp_path: Path) -> None:
    sky = FakeSky()
    backend = SkyBackend("gcp", Settings(home=tmp_path), server=sky)
    sky.unreachable = "the SkyPilot API server does not answer"
    config = yaml.safe_dump({"resources": {"cloud": "gcp"}, "run": "x"})
    for call in (
        lambda: backend.reach("c"),
        lambda: backend.launch(config, cluster_name="c", key=new_key()),
    ):
        with pytest.raises(NothingSubmitted):
            call()
