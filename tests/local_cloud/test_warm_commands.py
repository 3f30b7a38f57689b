"""Commands that a supervisor forks: what they find, and how they end, as if they were new."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.core.states import JobState, ProcessHolder, TerminationReason
from flows.core.training.usage import read_usage
from flows.launcher.local.job import LocalJob
from flows.launcher.local.supervisor_start import start_bare
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.local_cloud.warm_hosts import WarmHosts
from tests.support.waiting import eventually_sync, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

REPORT = r"""
import gc, json, os, resource, signal, subprocess, sys, threading

def target(number):
    link = os.readlink(f"/proc/self/fd/{number}")
    return link.partition(":")[0] if ":[" in link else link

def line(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(line for line in lines if line.startswith(name))

known = [n for n in dir(resource) if n.startswith("RLIMIT_")]
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False

environ = open("/proc/self/environ", errors="surrogateescape").read()
names = os.listdir("/proc/self/fd")
fds = sorted(n for n in map(int, names) if is_open(n))
main = sys.modules["__main__"]
report = {
    "argv": sys.argv,
    "orig_program": sys.argv[0],
    "cwd": os.getcwd(),
    "env": dict(sorted(os.environ.items())),
    "libc_env": sorted(os.fsdecode(subprocess.check_output(["env", "-0"])).split("\0")),
    "umask": os.popen("umask").read(),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in known},
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "affinity": sorted(os.sched_getaffinity(0)),
    "handlers": {n: str(signal.getsignal(n)) for n in sorted(signal.valid_signals())},
    "ignored": line("SigIgn"),
    "blocked": line("SigBlk"),
    "caught": line("SigCgt"),
    "fds": {n: target(n) for n in fds},
    "inheritable": {n: os.get_inheritable(n) for n in fds},
    "path": sys.path,
    "flags": str(sys.flags),
    "main": [str(getattr(main, n, None)) for n in ("__name__", "__file__", "__spec__")],
    "modules_of_ours": [name for name in sys.modules if name.split(".")[0] == "flows"],
    "threads": threading.active_count(),
    "streams": [(s.encoding, s.errors, s.line_buffering, s.write_through, s.fileno())
                if s else None for s in (sys.stdin, sys.stdout, sys.stderr)],
    "collects": gc.isenabled(),
    "comm": open("/proc/self/comm").read(),
    "command_line": open("/proc/self/cmdline", errors="surrogateescape").read().rstrip("\0"),
    "marked": [v for v in environ.split("\0") if v.startswith("OUMI_FLOWS_JOB_")],
    "cgroup": open("/proc/self/cgroup").read(),
    "executable": sys.executable,
}
with open(sys.argv[3], "w") as file:
    json.dump(report, file)
"""

NEW_WAYS = ("without input", "without error output")
"""Ways in which no command is forked."""

# Of each run, or of the way a process began. The job's folder and its group are named for the job.
_OF_THE_RUN = ("cgroup", "marked", "caught")
_VARIABLES_OF_THE_RUN = ("OUMI_FLOWS_JOB_DIR", "OUMI_FLOWS_JOB_KEY", "PYTEST_CURRENT_TEST", "_")

WAYS = {
    "plainly": "oumi train report.py out",
    "with arguments": "oumi train report.py out 'a b' '' \"$(printf 'caf\\351 \\t')\" --x=y",
    "in another folder": "mkdir -p 'sub folder'; cd 'sub folder'; oumi train ../report.py ../out",
    "with a umask": "umask 027; oumi train report.py out",
    "with limits": "ulimit -n 300; ulimit -c 0; ulimit -t 100; oumi train report.py out",
    "nicer": "nice -n 5 oumi train report.py out",
    "on one processor": "taskset -c 0 oumi train report.py out",
    "ignoring signals": "trap '' TERM USR1 INT; oumi train report.py out",
    "without a terminal": "nohup oumi train report.py out",
    "with open files": "exec 7>seven 9<report.py; oumi train report.py out 8>eight",
    "without input": "oumi train report.py out <&-",
    "without error output": "oumi train report.py out 2>&-",
    "into a pipe": "oumi train report.py out | cat",
    "out of a pipe": "echo x | oumi train report.py out",
    "in the background": "oumi train report.py out & wait $!",
    "in a subshell": "(export A=1; oumi train report.py out)",
    "with variables": "A=1 B='x y' OUMI_FLOWS_X=ü oumi train report.py out",
    "without variables": "unset LOGNAME; HOME=/tmp/h oumi train report.py out",
    "in place of the shell": "exec oumi train report.py out",
    "from a function": 'f() { oumi "$@"; }; f train report.py out',
    "from a process substitution": "oumi train report.py out 3< <(echo x)",
    "by another shell": "sh -c 'oumi train report.py out'",
    "by find": 'find "$PWD/report.py" -exec oumi train {} "$PWD/out" \';\'',
}


def jobs_of(folder: Path, hosts: WarmHosts, env: dict[str, str], *, warm: bool) -> Jobs:
    folder.mkdir()
    path = f"{hosts.program.parent}:{env.get('PATH', '')}"
    start = hosts.shared() if warm else start_bare
    return Jobs(folder / "home", folder, {**env, "PATH": path}, start=start)


@pytest.fixture
def both(tmp_path: Path, warm_hosts: WarmHosts) -> Iterator[dict[str, Jobs]]:
    """Jobs in two folders, of which one has its commands forked."""
    env = dict(os.environ)
    made = {
        name: jobs_of(tmp_path / name, warm_hosts, env, warm=name == "warm")
        for name in ("cold", "warm")
    }
    yield made
    for jobs in made.values():
        jobs.end_all()


def starts_of(job: LocalJob) -> list[str]:
    path = job.log_path.with_suffix(".record") / "commands.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["start"] for line in lines]


@pytest.mark.parametrize("way", WAYS)
def test_a_forked_command_finds_what_a_new_one_finds(both: dict[str, Jobs], way: str) -> None:
    found: dict[str, Any] = {}
    for name, jobs in both.items():
        (jobs.working_dir / "report.py").write_text(REPORT)
        job = jobs.ended(jobs.launch(WAYS[way], key="job"))
        assert job.exit_code == 0, job.log_path.read_text()
        is_forked = name == "warm" and way not in NEW_WAYS
        assert starts_of(job) == ({"warm": ["warm" if is_forked else "cold"], "cold": []}[name])
        report = json.loads((jobs.working_dir / "out").read_text())
        assert report["marked"][0] == f"OUMI_FLOWS_JOB_DIR={job.job_dir}"
        is_in_group = job.held_by is ProcessHolder.CONTROL_GROUP
        assert ("oumi-flows-" in report["cgroup"]) == is_in_group
        found[name] = comparable(report, jobs.working_dir)
    assert found["warm"] == found["cold"]


def comparable(report: dict[str, Any], folder: Path) -> Any:
    for name in _OF_THE_RUN:
        del report[name]
    for name in _VARIABLES_OF_THE_RUN:
        report["env"].pop(name, None)
    report["libc_env"] = [
        line for line in report["libc_env"] if line.partition("=")[0] not in _VARIABLES_OF_THE_RUN
    ]
    return json.loads(json.dumps(report).replace(str(folder), "FOLDER"))


ENDS = {
    "zero": "",
    "three": "raise SystemExit(3)",
    "255": "raise SystemExit(255)",
    "a text": "raise SystemExit('no')",
    "an error": "def f():\n    raise ValueError('odd')\nf()",
    "at once": "import os; print('lost', end=''); os._exit(7)",
    "an abort": "import os; os.abort()",
    "a fault": "import ctypes; ctypes.string_at(0)",
    "its own TERM": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "its own KILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "its own INT": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
    "exit handlers": "import atexit; atexit.register(print, 'bye'); print('last', end='')",
    "a late thread": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_forked_command_ends_as_a_new_one_ends(both: dict[str, Jobs], end: str) -> None:
    found: dict[str, Any] = {}
    for name, jobs in both.items():
        (jobs.working_dir / "command.py").write_text(ENDS[end])
        script = 'oumi train command.py || { echo "code $?"; false; }'
        job = jobs.ended(jobs.launch(script))
        # Of a signal, bash reports the line and the pid.
        lines = job.log_path.read_text().splitlines()
        shown = [
            line.split(str(jobs.working_dir))[0] for line in lines if "run.sh: line" not in line
        ]
        found[name] = (job.state, job.reason, job.exit_code, job.signal, shown)
        assert starts_of(job) == ([name] if name == "warm" else [])
    assert found["warm"] == found["cold"]


@pytest.fixture
def warm(both: dict[str, Jobs]) -> Jobs:
    """Jobs whose commands are forked."""
    return both["warm"]


def command(
    jobs: Jobs, code: str, script: str = "oumi train command.py", **fields: Any
) -> LocalJob:
    (jobs.working_dir / "command.py").write_text(f"import os, signal, subprocess, time\n{code}")
    return jobs.launch(script, **fields)


def test_a_command_that_ignores_the_request_is_killed_with_what_it_started(warm: Jobs) -> None:
    warm = warm.changed(grace_seconds=0.3)
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
open("child", "w").write(f"{child.pid}\\n")
open("command", "w").write(f"{os.getpid()}\\n")
time.sleep(300)
"""
    job = command(warm, code)
    pids = [warm.pid_in("child"), warm.pid_in("command")]
    warm.store.cancel(CLUSTER, job.job_id)
    assert warm.ended(job).reason is TerminationReason.USER_CANCELLED
    assert all(map(is_gone, pids))


COUNTS = """
open("ready", "w").close()
def note(*_):
    with open("count", "a") as file:
        file.write("x")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, note)
while True:
    time.sleep(0.01)
"""


def test_a_cancel_reaches_a_command_once(warm: Jobs) -> None:
    job = command(warm, COUNTS.replace("raise SystemExit(0)", "time.sleep(0.3); raise SystemExit"))
    eventually_sync((warm.working_dir / "ready").exists)
    warm.store.cancel(CLUSTER, job.job_id)
    warm.ended(job)
    assert (warm.working_dir / "count").read_text() == "x"


def test_a_signal_that_the_script_sends_reaches_the_command(warm: Jobs) -> None:
    script = "oumi train command.py & until [ -e ready ]; do sleep 0.01; done; kill $!; wait $!"
    job = warm.ended(command(warm, COUNTS, script))
    assert job.state is JobState.SUCCEEDED
    assert (warm.working_dir / "count").read_text() == "x"


def test_a_command_ends_with_what_stands_for_it(warm: Jobs) -> None:
    code = "open('command', 'w').write(f'{os.getpid()}\\n'); time.sleep(300)"
    job = command(warm, code, "timeout -s KILL 0.5 oumi train command.py || sleep 300")
    pid = warm.pid_in("command")
    eventually_sync(lambda: is_gone(pid))
    assert warm.now(job).state is JobState.RUNNING


def test_a_command_outlives_its_supervisor_and_is_cancelled_by_the_next(warm: Jobs) -> None:
    code = "open('command', 'w').write(f'{os.getpid()}\\n'); time.sleep(300)"
    job = warm.running(command(warm, code, key="key"))
    pid = warm.pid_in("command")
    warm.kill_supervisor(job)
    assert warm.now(job).state is JobState.RUNNING
    assert not is_gone(pid)
    warm.store.cancel(CLUSTER, job.job_id)
    assert warm.ended(job).state is JobState.CANCELLED
    assert is_gone(pid)


def test_a_job_does_not_notice_that_the_host_dies(warm: Jobs, warm_hosts: WarmHosts) -> None:
    start = warm_hosts.ready(warm_hosts.make())
    warm = warm.changed(start=start)
    code = "while not os.path.exists('go'): time.sleep(0.01)\nprint('done')"
    job = warm.running(command(warm, code))
    eventually_sync(lambda: starts_of(job) == ["warm"])
    pid = start.pid
    assert pid is not None
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    # The next job does not wait for another host.
    other = warm.ended(command(warm.changed(), "print('other')", "touch ran"))
    assert other.state is JobState.SUCCEEDED
    (warm.working_dir / "go").touch()
    assert warm.ended(job).state is JobState.SUCCEEDED
    warm_hosts.ready(start)
    assert start.pid not in (None, pid)


def test_the_usage_says_how_the_command_started(both: dict[str, Jobs]) -> None:
    for name, jobs in both.items():
        job = jobs.ended(command(jobs, ""))
        usage = read_usage(job.log_path.with_suffix(".record"))
        assert usage is not None
        assert usage.start == name
