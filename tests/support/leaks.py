"""What a test session may not leave behind: processes and listening ports."""

import os
from pathlib import Path

import psutil

from tests.support.isolation import MARKER_ENV
from tests.support.waiting import eventually_sync


def assert_nothing_left(marker: str, root: Path) -> None:
    """Fail, after ending them, if processes of this session are alive or a port is still open."""
    try:
        eventually_sync(lambda: not _left_over(marker, root), timeout=10.0)
    except AssertionError:
        left = _left_over(marker, root)
        described = [_describe(process) for process in left]
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)
        raise AssertionError("processes left running:\n" + "\n".join(described)) from None
    ports = sorted(
        connection.laddr.port
        for connection in psutil.Process().net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    )
    assert not ports, f"ports left listening in the test process: {ports}"


def processes_of(marker: str) -> list[psutil.Process]:
    """The live processes that inherited `marker`, other than this one, detached ones included."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.status() != psutil.STATUS_ZOMBIE and (
                process.environ().get(MARKER_ENV) == marker
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _started_in(root: Path) -> list[psutil.Process]:
    """Those of the session's home folder: a client may start a server without our environment."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and any(str(root) in word for word in _command(process))
    ]


def _left_over(marker: str, root: Path) -> list[psutil.Process]:
    found = {process.pid: process for process in [*processes_of(marker), *_started_in(root)]}
    # Python's own resource tracker ends with the interpreter that started it.
    return [
        process
        for process in found.values()
        if "multiprocessing.resource_tracker" not in " ".join(_command(process))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _describe(process: psutil.Process) -> str:
    return f"  {process.pid}: {' '.join(_command(process))[:300]}"
