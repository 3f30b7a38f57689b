"""Detached processes: no child of their starter, identified by more than their pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.core.errors import EngineUnavailable
from flows.core.live_processes import ProcessRecord, identity_of, works_in
from flows.core.private_files import JOB_UMASK_ENV

_POLL_SECONDS: Final = 0.02
_KILL_SECONDS: Final = 10.0
_SPAWN_TIMEOUT_SECONDS: Final = 30.0

# Forks, so that the process is no child of a client: ending the client's process tree does not end
# it, and it leaves no zombie behind. A shell's `&` would do but makes it ignore SIGINT.
# Its files are for its owner alone; its jobs get the umask of the process that starts it.
_DETACH: Final = f"""
import os, sys
log, argv = sys.argv[1], sys.argv[2:]
os.environ["{JOB_UMASK_ENV}"] = f"{{os.umask(0o077):03o}}"
pid = os.fork()
if pid:
    print(pid)
    sys.exit()
os.setsid()
fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.dup2(fd, 1)
os.dup2(fd, 2)
os.close(fd)
os.execv(argv[0], argv)
"""


def spawn_detached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    log_offset: int,
    pass_fds: Sequence[int] = (),
) -> ProcessRecord:
    """Start `argv` detached, in a session of its own, and append its output to `log`.

    Raises:
        EngineUnavailable: It could not be started.
    """
    try:
        started = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _DETACH, str(log), *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            pass_fds=pass_fds,
            timeout=_SPAWN_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineUnavailable(
            f"{argv[0]} could not be started ({error})",
            "Free memory or raise the limit on processes, then run `oumi-flows up`",
        ) from error
    pid = int(started.stdout)
    return ProcessRecord(pid=pid, identity=identity_of(pid) or "gone", log_offset=log_offset)


def find_process(
    argv_part: Sequence[str], *, folder: Path
) -> tuple[ProcessRecord, list[str]] | None:
    """Find a live process of this user for `folder`; return it and its last arguments.

    Args:
        argv_part: Part of its command line; the result has the arguments after it.
        folder: Its working directory.
    """
    import psutil

    wanted = list(argv_part)
    for process in psutil.process_iter(["cmdline", "uids"]):
        argv: list[str] = process.info["cmdline"] or []
        uids = process.info["uids"]
        if uids is None or uids.real != os.getuid():
            continue
        ends = [i for i in range(len(argv) + 1) if argv[:i][-len(wanted) :] == wanted]
        identity = identity_of(process.pid) if ends else None
        if identity is not None and works_in(process.pid, folder):
            return ProcessRecord(pid=process.pid, identity=identity), argv[ends[0] :]
    return None


def stop_process(record: ProcessRecord, *, grace_seconds: float) -> None:
    """End this very process, by SIGTERM and after `grace_seconds` by SIGKILL; wait for its end.

    Only the process itself: its children in other sessions keep running.

    Raises:
        EngineUnavailable: It still runs, or belongs to another user.
    """
    for number, patience in (
        (signal.SIGTERM, grace_seconds),
        (signal.SIGKILL, _KILL_SECONDS),
    ):
        try:
            if record.is_alive:
                os.kill(record.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise EngineUnavailable(
                f"Process {record.pid} belongs to another user", "Ask its owner to end it"
            ) from error
        deadline = time.monotonic() + patience
        while record.is_alive and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if not record.is_alive:
            return
    raise EngineUnavailable(
        f"Process {record.pid} did not end on SIGKILL",
        "Find out what it waits for, such as its disk",
    )


def usage_of(pid: int) -> tuple[datetime, int] | None:
    """When the process started and its resident memory in bytes; None if it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        started = datetime.fromtimestamp(process.create_time(), UTC)
        return started, int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
