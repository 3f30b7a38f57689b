"""Copies of results: checked, resumed, never over another file."""

import asyncio
import logging
import os
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.collecting.collection import Collection
from flows.collecting.log import CollectionLog
from flows.collecting.target import Target
from flows.core.errors import Conflict, InvalidArgument
from flows.core.models import JobHandle, JobProgress
from flows.core.results.manifest import manifest_path, read_manifest, write_manifest
from flows.core.results.values import CollectRequest, ResultsRequest
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.job.outcome import Outcome
from flows.job.runtime import Runtime
from flows.launcher.remote_files import RemoteFiles
from flows.launcher.slurm.ssh import LoginNode
from tests.results.trees import JOB_ID, wanted, write, write_checkpoint, write_model
from tests.support.fake_launcher import FakeLauncher
from tests.support.trees import digests
from tests.support.waiting import eventually

HANDLE = JobHandle(cloud="slurm", cluster_name="me@here", launcher_job_id="7")
BIG = 8_000_000


class Progress:
    """What a copy showed of its progress."""

    def __init__(self) -> None:
        self.shown: list[JobProgress] = []

    async def show(self, progress: JobProgress, **_: object) -> None:
        self.shown.append(progress)


class Cluster(FakeLauncher):
    """A cluster that is a folder of this machine, behind a program in the place of ssh."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home

    async def files(self, handle: JobHandle, *, key: str) -> RemoteFiles:
        node = LoginNode("me@here", timeout_seconds=30)
        return RemoteFiles(node, f"marker=; cd {shlex.quote(str(self.home / 'work'))} || exit 0")


class Copy:
    """Copies of the results of one job."""

    def __init__(self, folder: Path, launcher: FakeLauncher, source: ResultsRequest) -> None:
        self.into = folder / "into"
        self.progress = Progress()
        self.log_path = folder / "log" / "log.txt"
        self.pauses = [60.0]
        self._log = CollectionLog(self.log_path, logging.getLogger("copies"))
        settings = Settings(home=folder / "home")
        self._runtime = Runtime(launcher, settings, observes_cancels=True)
        self._source = source

    async def run(self, *what: str, into: Path | None = None) -> Outcome:
        request = CollectRequest(
            source=self._source,
            source_name="job",
            into=str(into or self.into),
            what=list(what),
        )
        copy = Collection(request, self.progress, self._runtime, self._log, pauses=self.pauses)
        return await copy.outcome()


def copied(folder: Path) -> dict[str, str]:
    """The checksums of what a copy left, without its manifest."""
    return {name: one for name, one in digests(folder).items() if not name.startswith("oumi-flows")}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    write_checkpoint(folder, 20)
    write_model(folder)
    write(folder / "odd names" / "a\nb's \\ c", "odd")
    write(folder / "empty", "")
    return folder


@pytest.fixture
def local(tmp_path: Path, output: Path) -> Copy:
    return Copy(tmp_path, FakeLauncher(), wanted(output))


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program in the place of ssh, which runs the command here, after a line of shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "cluster" / "work").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(first: str = ":") -> None:
        script = (
            f"#!/bin/bash\nexport HOME={shlex.quote(str(tmp_path / 'cluster'))}\n{first}\n"
            # rsync gives the account as an option.
            "while [[ $# -gt 0 && $1 != me@here && $1 != here ]]; do shift; done; shift\n"
            '[ "$1" = -- ] && shift\nexec bash -c "$*"\n'
        )
        (folder / "ssh").write_text(script)
        (folder / "ssh").chmod(0o755)

    put()
    return put


@pytest.fixture
def remote(tmp_path: Path, ssh: object) -> Copy:
    work = tmp_path / "cluster" / "work"
    write_checkpoint(work / "out", 20)
    write(work / "odd names" / "b's \\ c", "odd")
    (work / "out" / "big.bin").write_bytes(os.urandom(BIG))
    source = wanted(Path("out"), handle=HANDLE)
    return Copy(tmp_path, Cluster(tmp_path / "cluster"), source)


async def test_every_file_is_copied_with_an_equal_checksum_and_a_manifest(
    local: Copy, output: Path
) -> None:
    outcome = await local.run()
    assert outcome.reason is TerminationReason.COMPLETED
    assert "every checksum is equal" in outcome.text
    assert copied(local.into) == digests(output)
    assert read_manifest(local.into, JOB_ID) == digests(output)
    check = ["sha256sum", "-c", "--quiet", manifest_path(local.into, JOB_ID).name]
    await asyncio.to_thread(subprocess.run, check, cwd=local.into, check=True)
    assert local.progress.shown[-1].percent == 100
    assert not (local.into / ".oumi-flows").exists()


async def test_a_second_copy_changes_nothing(local: Copy) -> None:
    await local.run()
    before = {path: path.stat().st_mtime_ns for path in local.into.rglob("*") if path.is_file()}
    outcome = await local.run("models")
    assert outcome.reason is TerminationReason.COMPLETED
    after = {path: path.stat().st_mtime_ns for path in before}
    manifest = manifest_path(local.into, JOB_ID)
    assert {**after, manifest: 0} == {**before, manifest: 0}
    assert len(read_manifest(local.into, JOB_ID)) == len(before) - 1


@pytest.mark.parametrize("content", ["weightz", "longer than the weights"])
async def test_a_file_that_differs_is_named_and_kept(local: Copy, content: str) -> None:
    path = write(local.into / "model.safetensors", content)
    outcome = await local.run()
    assert outcome.reason is TerminationReason.INVALID_CONFIG
    assert outcome.text.startswith(f"CONFLICT: {path} exists and differs")
    assert path.read_text() == content


async def test_a_file_that_is_there_already_is_not_copied_again(local: Copy, output: Path) -> None:
    path = write(local.into / "model.safetensors", (output / "model.safetensors").read_text())
    inode = path.stat().st_ino
    assert (await local.run()).reason is TerminationReason.COMPLETED
    assert path.stat().st_ino == inode


async def test_a_link_in_the_target_cannot_lead_out_of_it(local: Copy, tmp_path: Path) -> None:
    local.into.mkdir()
    (tmp_path / "outside").mkdir()
    (local.into / "checkpoint-20").symlink_to(tmp_path / "outside")
    outcome = await local.run()
    assert "INVALID_ARGUMENT" in outcome.text
    assert list((tmp_path / "outside").iterdir()) == []


async def test_results_are_not_copied_into_their_own_folder(local: Copy, output: Path) -> None:
    for into in (output, output / "copy"):
        outcome = await local.run(into=into)
        assert outcome.text.startswith("INVALID_ARGUMENT: ")


async def test_a_part_that_was_copied_before_is_continued(local: Copy, output: Path) -> None:
    (output / "big.bin").write_bytes(os.urandom(BIG))
    staged = local.into / ".oumi-flows" / JOB_ID / "big.bin"
    staged.parent.mkdir(parents=True)
    staged.write_bytes((output / "big.bin").read_bytes()[: BIG // 2])
    inode = staged.stat().st_ino
    assert (await local.run()).reason is TerminationReason.COMPLETED
    assert (local.into / "big.bin").stat().st_ino == inode
    assert copied(local.into) == digests(output)


async def test_a_wrong_part_is_replaced(local: Copy, output: Path) -> None:
    write(local.into / ".oumi-flows" / JOB_ID / "model.safetensors", "wrong!")
    assert (await local.run()).reason is TerminationReason.COMPLETED
    assert copied(local.into) == digests(output)


async def test_two_copies_of_a_job_do_not_write_into_one_folder(local: Copy) -> None:
    other = Target(str(local.into), JOB_ID, threading.Event())
    with other.hold():
        outcome = await local.run()
    assert outcome.text.startswith("CONFLICT: another copy of job")
    assert (await local.run()).reason is TerminationReason.COMPLETED


def test_a_file_that_appears_during_a_copy_is_kept(tmp_path: Path) -> None:
    from flows.core.results.choosing import ChosenFile

    target = Target(str(tmp_path), JOB_ID, threading.Event())
    file = ChosenFile("/x", "a", "a", 1)
    staged, final = write(target.staging_path(file)), write(tmp_path / "a", "theirs")
    with pytest.raises(Conflict, match="appeared"):
        target.accept(file, target.checksum(staged))
    assert final.read_text() == "theirs"


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    target = Target(str(write(tmp_path / "file")), JOB_ID, threading.Event())
    with pytest.raises(InvalidArgument, match="nothing can be written"), target.hold():
        pass


def test_names_in_a_manifest_may_have_any_characters(tmp_path: Path) -> None:
    names = {"a b": "0" * 64, "a\nb": "1" * 64, "back\\slash": "2" * 64}
    write_manifest(tmp_path, JOB_ID, names)
    assert read_manifest(tmp_path, JOB_ID) == names


async def test_results_on_a_cluster_come_over_ssh(remote: Copy, tmp_path: Path) -> None:
    outcome = await remote.run()
    assert outcome.reason is TerminationReason.COMPLETED, outcome
    assert copied(remote.into) == digests(tmp_path / "cluster" / "work")


async def test_a_copy_that_is_killed_goes_on_where_it_stopped(
    remote: Copy, tmp_path: Path, ssh: Callable[[str], None]
) -> None:
    # rsync alone is slowed down: it would be done before it can be killed.
    ssh('case "$*" in *rsync*) set -- "${@/--server/--server --bwlimit=1000}";; esac')
    staged = tmp_path / "into" / ".oumi-flows" / JOB_ID / "out" / "big.bin"
    first = asyncio.create_task(remote.run())

    async def is_partly_there() -> bool:
        return staged.is_file() and 0 < staged.stat().st_size < BIG

    await eventually(is_partly_there, timeout=30, interval=0.02)
    for process in psutil.Process().children(recursive=True):
        if process.name() == "rsync":
            process.kill()
    await eventually(lambda: asyncio.sleep(0, first.done() or _waits(remote)), timeout=30)
    first.cancel()
    await asyncio.wait([first])
    part = staged.stat().st_size
    assert 0 < part < BIG
    assert not (remote.into / "out" / "big.bin").exists()
    ssh(":")
    outcome = await remote.run()
    assert outcome.reason is TerminationReason.COMPLETED, outcome
    assert copied(remote.into) == digests(tmp_path / "cluster" / "work")


def _waits(copy: Copy) -> bool:
    return "Trying again" in copy.log_path.read_text()


async def test_a_copy_that_is_cancelled_leaves_no_process(
    remote: Copy, tmp_path: Path, ssh: Callable[[str], None]
) -> None:
    ssh('case "$*" in *rsync*) set -- "${@/--server/--server --bwlimit=1000}";; esac')
    staged = tmp_path / "into" / ".oumi-flows" / JOB_ID / "out" / "big.bin"
    copying = asyncio.create_task(remote.run())

    async def has_begun() -> bool:
        return staged.is_file()

    await eventually(has_begun, timeout=30, interval=0.02)
    copying.cancel()
    await asyncio.wait([copying])
    assert copying.cancelled()
    names = [one.name() for one in psutil.Process().children(recursive=True)]
    assert "rsync" not in names


async def test_a_cluster_without_rsync_is_named(remote: Copy, ssh: Callable[[str], None]) -> None:
    ssh('case "$*" in *rsync*) echo "bash: rsync: command not found" >&2; exit 127;; esac')
    outcome = await remote.run()
    assert outcome.text.startswith("CLOUD_UNAVAILABLE: rsync is not installed on me@here")


async def test_files_of_another_machine_are_refused_with_its_work_pool(tmp_path: Path) -> None:
    far = wanted(tmp_path / "out", log_paths=["/not/here/log.txt"], work_pool="theirs")
    outcome = await Copy(tmp_path, FakeLauncher(), far).run()
    assert outcome.text.startswith("CLOUD_UNAVAILABLE: the files of job")
    assert f"work pool theirs, in {tmp_path / 'out'}; this worker does not" in outcome.text
    assert "OUMI_FLOWS_WORK_POOL=theirs" in outcome.text
