import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.core.live_processes import ProcessRecord, identity_of
from flows.core.private_files import job_umask
from mcp_server.engine.processes import (
    find_process,
    spawn_detached,
    stop_process,
)
from tests.support.waiting import eventually_sync

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[object]:
    spawned: list[ProcessRecord] = []

    def start(code: str, *arguments: str) -> ProcessRecord:
        record = spawn_detached(
            [sys.executable, "-S", "-c", code, *arguments],
            env=os.environ,
            cwd=tmp_path,
            log=tmp_path / "log",
            log_offset=0,
        )
        spawned.append(record)
        return record

    yield start
    for record in spawned:
        stop_process(record, grace_seconds=0)


def test_a_detached_process_is_nobodys_child_and_leads_its_own_session(spawn) -> None:
    record = spawn("import time; time.sleep(600)")

    eventually_sync(lambda: os.getsid(record.pid) == record.pid)

    assert os.getpgid(record.pid) == record.pid
    assert record.pid not in {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_detached_process_can_still_be_interrupted(spawn) -> None:
    record = spawn("import signal; signal.pause()")
    eventually_sync(lambda: psutil.Process(record.pid).status() == psutil.STATUS_SLEEPING)

    os.kill(record.pid, signal.SIGINT)

    eventually_sync(lambda: not record.is_alive)


def test_output_goes_to_the_log(spawn, tmp_path: Path) -> None:
    spawn("import sys; print('out', flush=True); print('err', file=sys.stderr)")

    eventually_sync(lambda: (tmp_path / "log").read_text() == "out\nerr\n")


def test_a_detached_process_makes_files_for_its_owner_and_knows_the_umask_for_jobs(
    spawn, tmp_path: Path
) -> None:
    old = os.umask(0o002)
    try:
        spawn("import os; print(oct(os.umask(0)), os.environ['OUMI_FLOWS_JOB_UMASK'], flush=True)")
    finally:
        os.umask(old)

    eventually_sync(lambda: (tmp_path / "log").read_text() == "0o77 002\n")

    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert job_umask({"OUMI_FLOWS_JOB_UMASK": "002"}) == 0o002
    assert job_umask({"OUMI_FLOWS_JOB_UMASK": "odd"}) is None
    assert job_umask({}) is None


def test_another_process_with_the_same_pid_is_not_the_recorded_one() -> None:
    mine = identity_of(os.getpid())
    assert mine is not None

    assert ProcessRecord(pid=os.getpid(), identity=mine).is_alive
    assert not ProcessRecord(pid=os.getpid(), identity=f"{mine}0").is_alive


def test_stopping_a_record_of_a_reused_pid_touches_nobody(spawn) -> None:
    record = spawn("import time; time.sleep(600)")

    stop_process(ProcessRecord(pid=record.pid, identity=f"{record.identity}0"), grace_seconds=0)

    assert record.is_alive
    stop_process(record, grace_seconds=10)
    assert not record.is_alive


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""], stdout=subprocess.DEVNULL)
    try:
        eventually_sync(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert identity_of(child.pid) is None
    finally:
        child.wait()


def test_a_process_that_ignores_sigterm_is_killed(spawn, tmp_path: Path) -> None:
    record = spawn(STUBBORN)
    eventually_sync(lambda: (tmp_path / "log").read_text() == "ready\n")

    stop_process(record, grace_seconds=0.1)

    assert not record.is_alive


def test_a_process_is_found_by_a_part_of_its_command_line(spawn, tmp_path: Path) -> None:
    record = spawn("import time; time.sleep(600)", "a marker", "of its", "own")

    found, rest = eventually_sync(lambda: find_process(["a marker", "of its"], folder=tmp_path))

    assert (found.pid, found.identity) == (record.pid, record.identity)
    assert rest == ["own"]
    assert find_process(["of its", "a marker"], folder=tmp_path) is None


def test_a_killed_process_counts_as_alive_until_it_has_let_go_of_its_port() -> None:
    code = (
        "import socket, threading, time\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "for _ in range(40):\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "print(listener.getsockname()[1], flush=True)\n"
        "time.sleep(600)\n"
    )
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            process.kill()
            eventually_sync(lambda pid=process.pid: identity_of(pid) is None, interval=0)
            socket.create_server(("127.0.0.1", port)).close()
