"""What decides whether a command is forked from the warm host or runs as a new process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from flows.core.states import JobState
from flows.launcher.local.job import LocalJob
from flows.launcher.local.warm.start import WarmStart
from tests.local_cloud.jobs import Jobs
from tests.local_cloud.warm_hosts import WarmHosts, inherited
from tests.support.waiting import eventually_sync, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

SETTINGS: Final = """
import os
FLAG = os.environ.get("A_FLAG", "none")
HOME = os.path.expanduser("~")
LATER = dict(os.environ).get  # a library that keeps all of it reads nothing yet
os.environ["SET_BY_IMPORT"] = "1"
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder with the module `a_library`, on the search path of hosts that get it."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "a_library.py").write_text(SETTINGS)
    return folder


@pytest.fixture
def start(warm_hosts: WarmHosts, modules: Path) -> WarmStart:
    """A host that has imported `a_library`."""
    return warm_hosts.ready(warm_hosts.make(["a_library"], PYTHONPATH=str(modules)))


@pytest.fixture
def warm(tmp_path: Path, warm_hosts: WarmHosts, modules: Path, start: WarmStart) -> Iterator[Jobs]:
    path = f"{warm_hosts.program.parent}:{inherited()['PATH']}"
    env = {"PATH": path, "PYTHONPATH": str(modules)}
    jobs = Jobs(tmp_path / "home", tmp_path, env, start=start)
    (tmp_path / "command.py").write_text("import a_library, os; print('flag', a_library.FLAG)")
    yield jobs
    jobs.end_all()


def how(jobs: Jobs, script: str = "oumi train command.py") -> list[tuple[str, str]]:
    """How the commands of a job with this script started, and why so."""
    job = jobs.ended(jobs.launch(script))
    assert job.state is JobState.SUCCEEDED, job.log_path.read_text()
    return notes_of(job)


def notes_of(job: LocalJob) -> list[tuple[str, str]]:
    path = job.log_path.with_suffix(".record") / "commands.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(note["start"], note["why"]) for note in map(json.loads, lines)]


WARM: Final = [("warm", "")]


@pytest.mark.parametrize(
    "change",
    ["", "MY_DATA=x", "HF_TOKEN=secret", "CUDA_VISIBLE_DEVICES=1", "OMP_NUM_THREADS=3",
     "OUMI_EXTRA_DEPS_FILE=/x", "SET_BY_IMPORT=2", "PATH=$PATH:/x"],
)  # fmt: skip
def test_a_variable_that_no_import_read_is_free_to_differ(warm: Jobs, change: str) -> None:
    assert how(warm, f"{change} oumi train command.py") == WARM


@pytest.mark.parametrize(
    "name",
    ["A_FLAG", "HOME", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "PYTORCH_CUDA_ALLOC_CONF",
     "NCCL_DEBUG", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_LAUNCH_BLOCKING", "TZ",
     "LC_ALL", "KMP_AFFINITY"],
)  # fmt: skip
def test_a_variable_that_an_import_read_decides(warm: Jobs, name: str) -> None:
    job = warm.ended(warm.launch(f"{name}=1 oumi train command.py"))
    assert notes_of(job) == [("cold", f"{name} is set otherwise")]
    assert f"flag {1 if name == 'A_FLAG' else 'none'}" in job.log_path.read_text()


def test_a_variable_that_was_removed_decides_too(warm: Jobs) -> None:
    assert how(warm, "unset HOME; oumi train command.py") == [("cold", "HOME is set otherwise")]


def test_an_upgraded_package_is_never_run_from_memory(
    warm: Jobs, start: WarmStart, modules: Path, warm_hosts: WarmHosts
) -> None:
    first = start.pid
    text = (modules / "a_library.py").read_text()
    # The setup part installs, and so does a person between two jobs.
    script = "echo \"FLAG = 'new'\" >> modules/a_library.py; oumi train command.py"
    job = warm.ended(warm.launch(script))
    changed = f"{modules / 'a_library.py'} has changed"
    assert notes_of(job) == [("cold", changed)]
    assert "flag new" in job.log_path.read_text()
    (modules / "a_library.py").write_text(text + "FLAG = 'newer'\n")
    job = warm.ended(warm.launch("oumi train command.py"))
    assert notes_of(job) == []
    assert "flag newer" in job.log_path.read_text()
    warm_hosts.ready(start)
    assert start.pid != first
    assert how(warm) == WARM


def test_a_package_that_was_added_decides(warm: Jobs, modules: Path) -> None:
    (modules / "another.py").touch()
    job = warm.ended(warm.launch("oumi train command.py"))
    assert (job.state, notes_of(job)) == (JobState.SUCCEEDED, [])


@pytest.mark.parametrize(
    "script",
    ["{program} train command.py", "python {program} train command.py",
     "oumi launch command.py", "oumi distributed command.py",
     "env -u OUMI_FLOWS_JOB_DIR oumi train command.py"],
)  # fmt: skip
def test_what_is_no_command_of_the_host_is_run_unchanged(
    warm: Jobs, warm_hosts: WarmHosts, script: str
) -> None:
    job = warm.ended(warm.launch(script.format(program=warm_hosts.program)))
    assert job.state is JobState.SUCCEEDED, job.log_path.read_text()
    assert "flag none" in job.log_path.read_text()
    assert notes_of(job) == []


def test_another_program_of_that_name_is_run_itself(warm: Jobs) -> None:
    other = warm.working_dir / "venv" / "oumi"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho other $1\n")
    other.chmod(0o755)
    last = "PATH=$(echo $PATH | sed 's,:,:'$PWD/venv:,)"
    job = warm.ended(warm.launch(f"{last}; oumi train command.py"))
    assert "other train" in job.log_path.read_text()
    assert notes_of(job) == [("cold", f"{other} is another program")]
    job = warm.ended(warm.launch("PATH=$PWD/venv:$PATH; oumi train command.py"))
    assert ("other train" in job.log_path.read_text(), notes_of(job)) == (True, [])


def test_without_the_program_the_script_is_told_so(warm: Jobs) -> None:
    job = warm.ended(warm.launch("PATH=${PATH%%:*}:/usr/bin:/bin; oumi train x"))
    assert job.exit_code == 127
    assert "oumi: command not found" in job.log_path.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
@pytest.mark.parametrize("prefix", ["setpriv --bounding-set=-all", "unshare --uts"])
def test_a_process_with_another_identity_is_a_new_one(warm: Jobs, prefix: str) -> None:
    why = "the command has another user or namespace"
    assert how(warm, f"{prefix} oumi train command.py") == [("cold", why)]


def test_a_host_that_has_touched_a_gpu_forks_no_command(
    warm: Jobs, modules: Path, warm_hosts: WarmHosts
) -> None:
    (modules / "torch.py").write_text("class cuda:\n    is_initialized = lambda: True\n")
    start = warm_hosts.make(["a_library", "torch"], PYTHONPATH=str(modules))
    warm = warm.changed(start=warm_hosts.ready(start))
    assert how(warm) == [("cold", "a GPU is in use in the warm host")]


def test_a_host_needs_free_memory(warm: Jobs, warm_hosts: WarmHosts) -> None:
    start = warm_hosts.make(free_memory=1.0)
    start.prepare()
    assert start.pid is None
    assert how(warm.changed(start=start)) == []


def test_a_host_that_has_nothing_to_do_ends_and_comes_back(
    warm: Jobs, warm_hosts: WarmHosts, modules: Path
) -> None:
    start = warm_hosts.make(["a_library"], idle_seconds=0.2, PYTHONPATH=str(modules))
    start.prepare()
    pid = eventually_sync(lambda: start.pid, interval=0.01)
    eventually_sync(lambda: is_gone(int(str(pid))))
    warm = warm.changed(start=start)
    assert how(warm) == []
    eventually_sync(lambda: start.pid is not None, interval=0.01)
    assert how(warm) == WARM


def test_a_host_that_cannot_import_delays_no_job(warm: Jobs, warm_hosts: WarmHosts) -> None:
    start = warm_hosts.make(["no_such_module"])
    start.prepare()
    assert how(warm.changed(start=start)) == []


WORKER: Final = """
import json, sys, time
from pathlib import Path
from flows.launcher.local.warm.start import WarmOptions, WarmStart
options = WarmOptions(folder=Path(sys.argv[1]), program=Path(sys.argv[2]), modules=[],
                      idle_seconds=600, free_memory=0)
start = WarmStart(options)
start.prepare()
while start.pid is None:
    time.sleep(0.01)
print(start.pid, flush=True)
time.sleep(300)
"""


def test_a_host_ends_with_its_worker(warm_hosts: WarmHosts, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path / "warm"), str(warm_hosts.program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        worker.send_signal(signal.SIGKILL)
    eventually_sync(lambda: is_gone(pid))


def test_many_commands_leave_the_host_as_it_was(warm: Jobs, start: WarmStart) -> None:
    pid = start.pid
    assert how(warm) == WARM
    open_files = Path(f"/proc/{pid}/fd")
    before = len(list(open_files.iterdir()))
    script = "for i in 1 2 3 4 5 6 7 8; do oumi train command.py & done; wait"
    for _ in range(5):
        assert how(warm, script) == WARM * 8
    assert start.pid == pid
    assert len(list(open_files.iterdir())) == before
    assert not Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
