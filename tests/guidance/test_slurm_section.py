"""What the guide to clouds says of Slurm is what the back end for it does."""

from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from flows.core.configs.slurm_checks import check_slurm_job
from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.settings import Settings
from flows.launcher.slurm.backend import SlurmBackend
from flows.launcher.slurm.script import batch_script, sbatch
from flows.launcher.slurm.ssh import LoginNode
from tests.guidance.markdown import Guide

KEY = "oumi-0123456789abcdef0123456789abcdef-1"


@pytest.fixture
def section() -> str:
    text = Guide("cloud-launch").text
    return text[text.index("## Slurm over ssh") :].partition("\n## ")[0]


class Node(LoginNode):
    """A login node that takes every script and file."""

    made: ClassVar[list["Node"]] = []

    def __init__(self, address: str, *, timeout_seconds: float) -> None:
        super().__init__(address, timeout_seconds=timeout_seconds)
        self.address = address
        self.limits: list[float] = []
        self.scripts: list[str] = []
        self.made.append(self)

    def run(self, script: str) -> bytes:
        self.scripts.append(script)
        return b"" if len(self.scripts) == 1 else b"7\n"

    def copy(self, source: Path, destination: str, *, timeout_seconds: float) -> None:
        self.limits.append(timeout_seconds)


@pytest.fixture
def nodes() -> list[Node]:
    """The nodes that were reached."""
    Node.made.clear()
    return Node.made


def launch(folder: Path, *, cluster: str = "me@anywhere", **fields: object) -> None:
    config = {"working_dir": str(folder), "run": "true", "resources": {"cloud": "slurm"}, **fields}
    SlurmBackend("slurm", Settings(), node_type=Node).launch(
        yaml.safe_dump(config), cluster_name=cluster, key=KEY
    )


def test_any_login_node_will_do_the_user_may_be_left_out_and_an_hour_is_the_limit(
    section: str, nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "a launch may take an hour (`OUMI_FLOWS_LAUNCH_TIMEOUT_SECONDS`)" in section
    monkeypatch.setenv("OUMI_SLURM_CONNECTIONS", "me@listed")
    launch(tmp_path)
    launch(tmp_path, cluster="slurm")
    assert [(node.address, node.limits) for node in nodes] == [
        ("me@anywhere", [3600.0]),
        ("me@listed", [3600.0]),
    ]


def test_another_user_and_storage_mounts_are_refused(
    section: str, nodes: list[Node], tmp_path: Path
) -> None:
    assert "must not differ" in section
    assert "storage mounts refused" in section
    with pytest.raises(InvalidConfig, match="user"):
        launch(tmp_path, user="other")
    with pytest.raises(InvalidConfig, match="storage_mounts"):
        launch(tmp_path, storage_mounts={"/out": {"source": "gs://b", "store": "gcs"}})
    assert not any(node.scripts for node in nodes)


def test_a_cluster_of_slurm_is_neither_stopped_nor_taken_down(section: str) -> None:
    assert "`stop_cluster` and `down_cluster` are refused there" in section
    backend = SlurmBackend("slurm", Settings(), node_type=Node)
    for call in (backend.stop, backend.down):
        with pytest.raises(InvalidArgument):
            call("me@anywhere")


@pytest.mark.parametrize("end", ["EOF", "SCRIPTFILETAG"])
def test_a_line_that_ends_a_heredoc_of_oumis_is_refused(section: str, end: str) -> None:
    assert end in section
    with pytest.raises(InvalidConfig, match=end):
        check_slurm_job({"run": f"cat <<{end}\n{end}\n"})


def test_the_scripts_are_one_of_sbatch_for_the_first_node_alone(section: str) -> None:
    assert "start the others with `srun`" in section
    command = sbatch(key=KEY, name="x", nodes=2, options={})
    script = batch_script(key=KEY, setup="make", run="train", envs={})
    assert command[0] == "sbatch"
    assert "--nodes=2" in command
    assert "srun" not in script
    assert script.index("make") < script.index("train")
