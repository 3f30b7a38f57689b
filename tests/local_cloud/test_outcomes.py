"""How a job's end reads: every way to end has one reason, for good."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core.errors import InvalidArgument, JobNotFound, LaunchFailed
from flows.core.private_files import JOB_UMASK_ENV
from flows.core.states import JobState, TerminationReason
from flows.launcher.local.followed_log import followed_log
from flows.launcher.local.store import LocalStore
from tests.local_cloud.jobs import CLUSTER, Jobs, broken_bash


def test_a_script_that_ends_well_succeeds(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("echo hello; echo world >&2", setup="echo ready"))
    assert (job.state, job.reason, job.exit_code, job.signal, job.phase) == (
        JobState.SUCCEEDED,
        TerminationReason.COMPLETED,
        0,
        None,
        "run",
    )
    assert job.log_path.read_text() == "ready\nhello\nworld\n"
    assert job.started_at is not None
    assert job.ended_at is not None
    assert job.submitted_at <= job.started_at <= job.ended_at


def test_a_failing_command_ends_the_script_with_its_exit_code(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("(exit 3)\necho not reached"))
    assert (job.state, job.reason, job.exit_code) == (
        JobState.FAILED,
        TerminationReason.NONZERO_EXIT,
        3,
    )
    assert job.log_path.read_text() == ""


def test_a_failing_setup_is_told_from_a_failing_run(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("echo not reached", setup="false"))
    assert (job.reason, job.exit_code, job.phase) == (TerminationReason.SETUP_FAILED, 1, "setup")
    assert job.log_path.read_text() == ""


@pytest.mark.parametrize("setup", ["exit 0", "cat <<END\nnever closed"])
def test_a_setup_that_ends_the_script_is_no_success(jobs: Jobs, setup: str) -> None:
    job = jobs.ended(jobs.launch("echo not reached", setup=setup))
    assert job.reason is TerminationReason.SETUP_FAILED
    assert "the run part was not reached" in job.log_path.read_text()


def test_variables_set_in_setup_reach_the_run_part(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch('echo "$GREETING"', setup="GREETING=hello"))
    assert job.log_path.read_text() == "hello\n"


def test_a_training_process_killed_by_a_person_reads_as_killed(jobs: Jobs) -> None:
    job = jobs.launch("sleep 300 & echo $! > child; wait $!")
    os.kill(jobs.pid_in("child"), signal.SIGKILL)
    job = jobs.ended(job)
    assert (job.reason, job.exit_code) == (TerminationReason.KILLED, 137)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_script_killed_by_a_person_reads_as_killed(jobs: Jobs, number: signal.Signals) -> None:
    job = jobs.launch("echo $$ > script; exec sleep 300")
    os.kill(jobs.pid_in("script"), number)
    job = jobs.ended(job)
    assert (job.reason, job.exit_code, job.signal) == (TerminationReason.KILLED, None, number)


def test_a_program_that_crashes_is_not_killed_from_outside(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("kill -SEGV $$"))
    assert (job.reason, job.signal) == (TerminationReason.NONZERO_EXIT, signal.SIGSEGV)


def test_a_missing_working_directory_fails_with_the_reason_in_the_log(
    jobs: Jobs, tmp_path: Path
) -> None:
    job = jobs.ended(jobs.launch("true", working_dir=str(tmp_path / "no such folder")))
    assert job.reason is TerminationReason.SETUP_FAILED
    assert "no such folder: No such file or directory" in job.log_path.read_text()


def test_a_missing_bash_fails_the_launch_with_the_reason_in_the_log(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bash = broken_bash(tmp_path)
    monkeypatch.setenv("PATH", str(bash.parent))
    job = jobs.ended(jobs.launch("true"))
    assert (job.state, job.reason) == (JobState.FAILED, TerminationReason.LAUNCH_FAILED)
    assert f"cannot start {bash}" in job.log_path.read_text()


@pytest.mark.parametrize("name", ["a b", "it's", 'say "hi"', "$HOME", "-n", "ümlaut", "a\nb", "*"])
def test_a_working_directory_may_have_any_name(jobs: Jobs, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    job = jobs.ended(jobs.launch("touch made-here", working_dir=str(folder)))
    assert job.reason is TerminationReason.COMPLETED
    assert (folder / "made-here").exists()


def test_the_home_folder_may_have_any_name(jobs: Jobs, tmp_path: Path) -> None:
    other = Jobs(tmp_path / 'it\'s a "home" $HOME', tmp_path, jobs.env)
    job = other.ended(other.launch("echo fine"))
    assert (job.reason, job.log_path.read_text()) == (TerminationReason.COMPLETED, "fine\n")


def test_processes_that_outlive_the_script_are_ended_with_it(jobs: Jobs) -> None:
    job = jobs.launch("setsid sleep 300 & echo $! > child")
    child = jobs.pid_in("child")
    assert jobs.ended(job).reason is TerminationReason.COMPLETED
    assert not Path(f"/proc/{child}").exists()


def test_a_log_of_300_megabytes_without_a_newline_is_kept(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("head -c 300000000 /dev/zero"), timeout=60)
    assert job.reason is TerminationReason.COMPLETED
    assert job.log_path.stat().st_size == 300_000_000


def test_a_followed_log_ends_with_the_job_and_replaces_what_is_not_utf_8(jobs: Jobs) -> None:
    job = jobs.launch(
        r"printf 'a\r50%%\r100%%\n\xff\xfe\n'; until [ -e go ]; do sleep 0.01; done; echo b"
    )
    stream = followed_log(job.log_path, is_live=lambda: not jobs.now(job).state.is_terminal)
    with stream:
        assert stream.readline() == "a\r50%\r100%\n"
        assert stream.readline() == "\N{REPLACEMENT CHARACTER}" * 2 + "\n"
        (jobs.working_dir / "go").touch()
        assert stream.readline() == "b\n"
        assert stream.readline() == ""


def test_everything_on_disk_is_private(jobs: Jobs) -> None:
    old = os.umask(0)
    try:
        job = jobs.ended(jobs.launch("true"))
    finally:
        os.umask(old)
    paths = [jobs.root.parent, *jobs.root.parent.rglob("*")]
    shared = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert job.reason is TerminationReason.COMPLETED
    assert shared == []


def test_the_jobs_own_files_keep_the_launchers_umask(jobs: Jobs) -> None:
    jobs.ended(jobs.launch("umask > mask"))
    mask = os.umask(0o022)
    os.umask(mask)
    assert int((jobs.working_dir / "mask").read_text(), 8) == mask


def test_a_job_of_the_engine_keeps_the_umask_of_who_started_the_engine(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_UMASK_ENV, "002")
    old = os.umask(0o077)
    try:
        job = jobs.ended(jobs.launch("umask > mask; echo made"))
    finally:
        os.umask(old)
    assert int((jobs.working_dir / "mask").read_text(), 8) == 0o002
    assert stat.S_IMODE((jobs.working_dir / "mask").stat().st_mode) == 0o664
    assert stat.S_IMODE(job.log_path.stat().st_mode) == 0o600


def test_every_process_of_a_job_carries_its_key(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("bash -c 'echo \"$OUMI_FLOWS_JOB_KEY\"'", key="oumi-1234-1"))
    assert job.job_id == "oumi-1234-1"
    assert job.log_path.read_text() == "oumi-1234-1\n"


def test_no_value_of_the_environment_is_in_an_observation(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("true", env={**jobs.env, "TOKEN": "hunter2"}))
    assert "hunter2" not in repr(job)


@pytest.mark.parametrize(
    "cluster", ["", "a/b", "..", ".slots", "a\0b", "x" * 300, "new\nline", "\ud800"]
)
def test_a_cluster_whose_name_cannot_name_a_folder_is_refused(jobs: Jobs, cluster: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a folder"):
        jobs.store.launch(cluster, jobs.request("true"))
    assert jobs.store.get(cluster, "a") is None
    assert not jobs.store.has_cluster(cluster)


@pytest.mark.parametrize("key", ["../../etc", "a/b", ".new-x"])
def test_a_key_that_cannot_name_a_folder_is_refused(jobs: Jobs, key: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a folder"):
        jobs.launch("true", key=key)
    assert jobs.store.get(CLUSTER, key) is None


def test_a_job_that_was_never_launched_is_none_and_cannot_be_cancelled(jobs: Jobs) -> None:
    jobs.ended(jobs.launch("true"))
    assert jobs.store.get(CLUSTER, "unknown") is None
    with pytest.raises(JobNotFound, match="unknown"):
        jobs.store.cancel(CLUSTER, "unknown")
    with pytest.raises(JobNotFound, match="elsewhere"):
        jobs.store.cancel("elsewhere", "unknown")


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    jobs = Jobs(tmp_path / "file" / "local", tmp_path, {})
    with pytest.raises(LaunchFailed, match=r"could not be launched in .*file"):
        jobs.launch("true")


def test_jobs_are_listed_in_the_order_of_submission_on_every_cluster(jobs: Jobs) -> None:
    names = ["c", "a", "b"]
    for name in names:
        jobs.launch("true", name=name)
    jobs.store.launch("other", jobs.request("true", name="d"))
    assert [job.name for job in jobs.store.jobs(CLUSTER)] == names
    assert [job.name for job in jobs.store.jobs("other")] == ["d"]
    assert jobs.store.clusters() == ["local", "other"]


def test_a_clock_set_back_while_a_job_runs_disorders_nothing(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = time.time() + 1e6
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: ahead)
        first = jobs.launch("sleep 0.05")
    second = jobs.launch("true")
    first, second = jobs.ended(first), jobs.ended(second)
    assert jobs.store.jobs(CLUSTER) == [first, second]
    assert first.started_at is not None
    assert first.ended_at is not None
    assert ahead == first.submitted_at <= first.started_at
    assert 0.05 <= first.ended_at - first.started_at < 5.0


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thirty thousand files burden a disk for long."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(dir=memory))
    yield path
    shutil.rmtree(path)


def test_ten_thousand_ended_jobs_are_listed_fast(jobs: Jobs, memory_path: Path) -> None:
    jobs.root = memory_path / "local"
    jobs.store = jobs.reopened()
    model = jobs.ended(jobs.launch("true"))
    for number in range(10_000):
        folder = model.job_dir.with_name(f"old-{number}")
        folder.mkdir()
        for name in ("spec.json", "exit.json"):
            (folder / name).hardlink_to(model.job_dir / name)
    live = [jobs.launch("sleep 300") for _ in range(5)]
    store = LocalStore(jobs.root, slots=4, cancel_grace_seconds=1)
    assert len(store.jobs(CLUSTER)) == 10_006
    started = time.process_time()
    assert len(store.live_jobs()) == len(live)
    assert time.process_time() - started < 0.1
    jobs.end_all()


def test_the_store_and_the_supervisor_load_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); "
        "import flows.launcher.local.store; "
        "known = sys.stdlib_module_names | {'flows', '__main__'}; "
        "print({name.split('.')[0] for name in sys.modules} - known)"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-I", "-S", "-c", code, root]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
