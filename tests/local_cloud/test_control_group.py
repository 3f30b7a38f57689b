"""A job's control group: a process that gives up everything else is still the job's."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flows.core.states import JobState, ProcessHolder, TerminationReason
from flows.launcher.local.control_group import ControlGroup
from flows.launcher.local.job import LocalJob
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.store import LocalStore
from tests.local_cloud.jobs import CLUSTER, Jobs, broken_bash
from tests.support.control_groups import can_make_groups, delegated_group
from tests.support.waiting import eventually_sync, is_gone

UNPRIVILEGED = 65534
PYTHON = "/usr/bin/python3"
needs_groups = pytest.mark.skipif(
    not can_make_groups(), reason="this process may make no control group"
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(PYTHON).exists() or not can_make_groups(),
    reason="only root can delegate a group, and the other user needs a Python",
)

STRAY = """
python3 - <<'END'
import os
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 256)
    os.execve("/bin/bash", ["bash", "-c",
        'trap "" TERM; echo $$ > stray; while :; do /bin/sleep 300; done'], {})
END
echo $$ > script
exec sleep 300
"""
"""Leaves a process with an empty environment, its own session and no inherited descriptor."""

LAUNCHER = """
import os, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from flows.launcher.local.job import LocalJobRequest
from flows.launcher.local.store import LocalStore
store = LocalStore(Path(sys.argv[2]), slots=2, cancel_grace_seconds=0.2)
request = LocalJobRequest(
    name="a job", run=sys.argv[3], env=dict(os.environ), working_dir=os.getcwd(), key="key"
)
sys.stdin.readline()
print(store.launch("local", request).job_id, flush=True)
sys.stdin.readline()
print(store.cancel("local", "key").state, flush=True)
"""


def without_supervisor_and_script(jobs: Jobs, job: LocalJob) -> int:
    """Kills both; the pid of what is left."""
    script, stray = jobs.pid_in("script"), jobs.pid_in("stray")
    jobs.kill_supervisor(job)
    os.kill(script, signal.SIGKILL)
    eventually_sync(lambda: is_gone(script))
    return stray


def group_of(job: LocalJob) -> ControlGroup:
    record = JobFolder(job.job_dir).process_record()
    assert record is not None
    assert record.control_group
    return ControlGroup(Path(record.control_group))


@needs_groups
def test_a_process_that_gave_up_all_its_marks_does_not_outlive_the_cancel(jobs: Jobs) -> None:
    job = jobs.launch(STRAY)
    stray = without_supervisor_and_script(jobs, job)
    assert jobs.now(job).state is JobState.RUNNING
    jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=0.2)
    ended = jobs.ended(job)
    assert (ended.reason, ended.held_by) == (
        TerminationReason.USER_CANCELLED,
        ProcessHolder.CONTROL_GROUP,
    )
    assert is_gone(stray)
    assert not group_of(job).path.exists()


@needs_groups
def test_a_job_is_not_lost_while_a_process_without_marks_lives(jobs: Jobs) -> None:
    job = jobs.launch(STRAY)
    stray = without_supervisor_and_script(jobs, job)
    assert jobs.reopened().get(CLUSTER, job.job_id) == jobs.now(job)
    os.kill(stray, signal.SIGKILL)
    group_of(job).kill()
    assert jobs.ended(job).reason is TerminationReason.LOST
    assert not group_of(job).path.exists()


@needs_groups
def test_a_job_is_in_its_group_from_its_first_process_on(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("cat /proc/self/cgroup"))
    assert f"/{group_of(job).path.name}\n" in job.log_path.read_text()
    assert not group_of(job).path.exists()


@needs_groups
def test_groups_that_a_job_made_itself_go_with_its_own(jobs: Jobs) -> None:
    job = jobs.launch(
        "mount=$(findmnt -nt cgroup2 -o TARGET | head -1); "
        'own="$mount$(sed -n s/^0:://p /proc/self/cgroup)"; mkdir -p "$own/inner/most"; '
        'echo $$ > "$own/inner/most/cgroup.procs"; trap "" TERM; echo $$ > script; sleep 300'
    )
    script = jobs.pid_in("script")
    jobs.kill_supervisor(job)
    jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=0.0)
    assert jobs.ended(job).reason is TerminationReason.USER_CANCELLED
    assert is_gone(script)
    assert not group_of(job).path.exists()


@needs_groups
def test_a_job_that_could_not_be_started_leaves_no_group(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bash = broken_bash(tmp_path)
    monkeypatch.setenv("PATH", str(bash.parent))
    job = jobs.ended(jobs.launch("true"))
    assert job.reason is TerminationReason.LAUNCH_FAILED
    assert not group_of(job).path.exists()


def test_without_a_group_a_cancel_ends_what_the_process_tree_shows(jobs: Jobs) -> None:
    store = LocalStore(jobs.root, slots=4, cancel_grace_seconds=0.2, uses_control_groups=False)
    job = store.launch(CLUSTER, jobs.request(STRAY))
    stray = jobs.pid_in("stray")
    assert jobs.running(job).held_by is ProcessHolder.PROCESS_TREE
    store.cancel(CLUSTER, job.job_id)
    assert jobs.ended(job).reason is TerminationReason.USER_CANCELLED
    assert is_gone(stray)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach and write to."""
    folder = Path(tempfile.mkdtemp(prefix="oumi-flows-tests-"))
    os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
    yield folder
    shutil.rmtree(folder)


@needs_root
@pytest.mark.parametrize("is_delegated", [True, False])
def test_a_user_without_privileges_has_a_group_where_one_is_delegated(
    open_folder: Path, *, is_delegated: bool
) -> None:
    jobs = Jobs(open_folder / "home" / "local", open_folder, env={})
    source = str(Path(__file__).parents[2])
    command = [PYTHON, "-I", "-S", "-c", LAUNCHER, source, str(jobs.root), STRAY]
    with ExitStack() as stack:
        delegated = stack.enter_context(delegated_group(UNPRIVILEGED)) if is_delegated else None
        launcher = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=open_folder,
                user=UNPRIVILEGED,
                group=UNPRIVILEGED,
                extra_groups=[],
            )
        )
        stack.callback(jobs.end_all)
        assert delegated is None or delegated.add(launcher.pid)
        assert launcher.stdin is not None
        assert launcher.stdout is not None
        launcher.stdin.write("\n")
        launcher.stdin.flush()
        assert launcher.stdout.readline() == "key\n"
        job = jobs.store.get(CLUSTER, "key")
        assert job is not None
        holder = ProcessHolder.CONTROL_GROUP if is_delegated else ProcessHolder.PROCESS_TREE
        assert jobs.running(job).held_by is holder
        stray, script = jobs.pid_in("stray"), jobs.pid_in("script")
        if is_delegated:
            without_supervisor_and_script(jobs, job)
        launcher.communicate("\n")
        assert jobs.ended(job).reason is TerminationReason.USER_CANCELLED
        assert is_gone(stray)
        assert is_gone(script)
