"""Starting supervisors by forking them from a warm host, which the worker keeps beside it."""

import array
import hashlib
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows.core.private_files import make_private
from flows.launcher.local.inherited_environment import inherited_environment
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.processes import open_descriptor
from flows.launcher.local.supervisor_start import SOURCE_ROOT, is_ready, start_bare
from flows.launcher.local.warm import host
from flows.launcher.local.warm.became import ROOM, ROOM_ENV
from flows.launcher.local.warm.host import HostOptions

_START: Final = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from flows.launcher.local.warm.host import main; main(int(sys.argv[2]), sys.argv[3])"
)
_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from flows.launcher.local.warm.program import main; main(sys.argv.pop(1))"
)
_ANSWER_SECONDS: Final = 10.0
_MEMORY: Final = Path("/proc/meminfo")


@dataclass(frozen=True, kw_only=True)
class WarmOptions:
    """How a worker keeps its warm host.

    Attributes:
        folder: Where its files are.
        program: The `oumi` that its forks become.
        modules: Modules that it imports.
        idle_seconds: How long it waits for a request before it ends.
        free_memory: Share of the machine's memory that must be free for it to start.
    """

    folder: Path
    program: Path
    modules: Sequence[str]
    idle_seconds: float
    free_memory: float


@dataclass
class _Host:
    """A host that was started: its process, its connection, its environment."""

    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    environment: dict[str, str]
    is_ready: bool = False

    def close(self) -> None:
        """Have it end."""
        self.connection.close()
        with suppress(OSError):
            self.process.kill()


class WarmStart:
    """Starts supervisors: forked from the warm host where there is one, else bare.

    No job waits for a host. One that has ended is started again for later jobs.

    Args:
        options: How to keep the host.
        environment: The environment that jobs inherit, at the time of the call.
    """

    def __init__(
        self,
        options: WarmOptions,
        *,
        environment: Callable[[], dict[str, str]] = lambda: inherited_environment(os.environ),
    ) -> None:
        self._options = options
        self._environment = environment
        self._host: _Host | None = None
        self._is_kept = False
        self._lock = threading.Lock()

    def __call__(self, folder: JobFolder) -> None:
        """Start a supervisor; see `SupervisorStart`."""
        # One that takes over from another starts nothing.
        if folder.process_record() is not None or not self._fork(folder):
            start_bare(folder)

    def prepare(self) -> None:
        """Keep a host from now on: start one, unless there is one or memory is short.

        It gets ready by itself.
        """
        with self._lock:
            self._is_kept = True
            self._keep()

    def close(self) -> None:
        """End the host, and keep none."""
        with self._lock:
            self._is_kept = False
            self._drop()

    @property
    def pid(self) -> int | None:
        """Pid of the host once it can fork; None without one."""
        with self._lock:
            return self._host.process.pid if self._is_usable() and self._host else None

    def _fork(self, folder: JobFolder) -> bool:
        """Have the host fork a supervisor, and wait until that is ready; False if it could not."""
        output, ready = os.pipe()
        try:
            with open_descriptor(folder.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as log:
                try:
                    is_forked = self._ask(folder, [ready, log])
                finally:
                    os.close(ready)
            return is_forked and is_ready(output)
        finally:
            os.close(output)

    def _ask(self, folder: JobFolder, files: list[int]) -> bool:
        with self._lock:
            if self._is_usable():
                if self._is_forked(folder, files):
                    return True
                self._drop()
            if self._is_kept:
                self._keep()
            return False

    def _keep(self) -> None:
        with suppress(OSError):
            if not self._is_alive() and _free_share() >= self._options.free_memory:
                self._host = self._start_host()

    def _is_usable(self) -> bool:
        if not self._is_alive() or self._host is None:
            return False
        if not self._host.is_ready:
            self._host.is_ready = _receive(self._host.connection, seconds=0.0) == host.READY
        return self._host.is_ready

    def _is_forked(self, folder: JobFolder, files: list[int]) -> bool:
        assert self._host is not None  # noqa: S101 - usable
        descriptors = array.array("i", files).tobytes()
        try:
            self._host.connection.sendmsg(
                [os.fsencode(folder.path)],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)],
            )
        except OSError:
            return False
        return _receive(self._host.connection, seconds=_ANSWER_SECONDS) == host.FORKED

    def _is_alive(self) -> bool:
        """Whether there is a host of the environment that jobs inherit now."""
        if self._host is not None and (
            self._host.process.poll() is not None or self._host.environment != self._environment()
        ):
            self._drop()
        return self._host is not None

    def _drop(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None

    def _start_host(self) -> _Host:
        options = self._options
        make_private(options.folder)
        environment = self._environment()
        given = HostOptions(
            program=str(options.program),
            folder=str(self._write_program()),
            modules=list(options.modules),
            idle_seconds=options.idle_seconds,
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [str(SOURCE_ROOT), str(theirs.fileno()), json.dumps(given._asdict()), ROOM]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with theirs, open_descriptor(options.folder / "host.log", flags) as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, *words],
                cwd="/",
                env={**environment, ROOM_ENV: ROOM},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )
        threading.Thread(target=process.wait, daemon=True, name="warm host").start()
        return _Host(process, ours, environment)

    def _write_program(self) -> Path:
        """Write the `oumi` for the PATH of jobs; return its folder."""
        words = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(SOURCE_ROOT)]
        name = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
        folder = self._options.folder / name
        make_private(folder)
        script = f'#!/bin/sh\nexec {shlex.join([*words, str(folder)])} "$@"\n'
        draft = folder / f".oumi-{os.getpid()}-{threading.get_ident()}"
        with open_descriptor(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            os.write(file, os.fsencode(script))
            os.fchmod(file, 0o700)
        return draft.replace(folder / "oumi").parent


def find_program() -> Path:
    """The `oumi` beside this interpreter, which jobs find first."""
    return Path(sys.executable).with_name("oumi")


def _receive(connection: socket.socket, *, seconds: float) -> bytes:
    """A message of the host; empty if none comes in time, or it has ended."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return b""
    try:
        return connection.recv(64)
    except OSError:
        return b""


def _free_share() -> float:
    """The share of the machine's memory that is free; 0 where the system does not tell."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return 0.0
    sizes = {line.partition(":")[0]: float(line.split()[1]) for line in lines}
    return sizes.get("MemAvailable", 0.0) / sizes.get("MemTotal", 1.0)
