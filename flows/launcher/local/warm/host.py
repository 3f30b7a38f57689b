"""The warm host: imports what Oumi's commands need, then forks supervisors of local jobs.

It runs until its worker closes the connection, or asks nothing of it for a while. A supervisor that
it forked is independent of it.
"""

import array
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Never

from flows.core.training.recorder import record_folder
from flows.core.training.usage_names import COMMANDS_FILE
from flows.launcher.local import supervisor
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.warm.became import ROOM_ENV, run_command
from flows.launcher.local.warm.door import Became, Door
from flows.launcher.local.warm.fitness import own_files, why_cold
from flows.launcher.local.warm.imports import Imports
from flows.launcher.local.warm.request import CommandRequest

READY: Final = b"ready"
"""What a host says once it can fork."""
FORKED: Final = b"forked"
STALE: Final = b"stale"
"""What it says, and ends, if a file that it imported has changed."""
MESSAGE_BYTES: Final = 65_536
"""Longest message; it is the path of a job's folder."""


class HostOptions(NamedTuple):
    """What a host is started with.

    Attributes:
        program: The `oumi` that its forks become.
        folder: Folder of the `oumi` that asks for them, for the PATH of jobs.
        modules: Modules that it imports.
        idle_seconds: How long it waits for a request before it ends.
    """

    program: str
    folder: str
    modules: list[str]
    idle_seconds: float


def main(connection: int, options: str) -> Never:
    """Serve the worker at the other end of a connected socket.

    Args:
        connection: The socket's descriptor.
        options: `HostOptions`, as JSON.
    """
    worker = socket.socket(fileno=connection)
    WarmHost(worker, HostOptions(**json.loads(options))).serve()


class WarmHost:
    """One warm host, in a process of its own that `main` alone may use."""

    def __init__(self, worker: socket.socket, options: HostOptions) -> None:
        self._worker = worker
        self._options = options
        self._program = Path(options.program)
        self._imports = Imports()
        self._held: list[int] = []
        # Instead of the empty entry of `-c`, and of our own at the end, what a program's start has.
        own = 0 if sys.flags.safe_path else 1
        self._search_path = [str(self._program.parent)] * own + sys.path[own:-1]

    def serve(self) -> Never:
        """Import, then fork a supervisor for each request, until there is no more to do."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker decides
        os.environ.pop(ROOM_ENV, None)
        sys.path[:] = self._search_path
        self._imports.run(self._options.modules)
        self._held = [number for number in own_files() if number != self._worker.fileno()]
        gc.collect()
        gc.freeze()  # the collector would write to every page that forks share
        self._worker.send(READY)
        poll = select.poll()
        poll.register(self._worker, select.POLLIN)
        while poll.poll(self._options.idle_seconds * 1000):
            message, files = _receive(self._worker)
            if not message:
                break
            if self._imports.changed_file() is not None:
                self._worker.send(STALE)
                break
            self._fork(os.fsdecode(message), files)
        os._exit(0)

    def _fork(self, job_dir: str, files: list[int]) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid == 0:
            self._supervise(job_dir, files)
        for number in files:
            os.close(number)
        os.waitpid(pid, 0)
        self._worker.send(FORKED)

    def _supervise(self, job_dir: str, files: list[int]) -> Never:
        """Become the supervisor of a job, or a command that this supervisor forks."""
        self._worker.close()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, wanted in zip((nothing, *files), (0, 1, 2), strict=True):
            os.dup2(number, wanted)
            os.close(number)
        os.chdir("/")
        try:
            supervisor.main(job_dir, make_door=self._make_door)
            os._exit(0)
        except Became as fork:
            became = fork
        # Outside of the handler, which errors of the command would name as their context.
        run_command(became, search_path=self._search_path, imports=self._imports, held=self._held)

    def _make_door(self, folder: JobFolder, enter: Callable[[int], None]) -> Door:
        return Door(
            folder.path,
            programs=self._options.folder,
            notes=record_folder(folder.log_path) / COMMANDS_FILE,
            judge=self._judge,
            enter=enter,
        )

    def _judge(self, request: CommandRequest, peer: int) -> str:
        return why_cold(
            request, program=self._program, imports=self._imports, held=self._held, peer=peer
        )


def _receive(worker: socket.socket) -> tuple[bytes, list[int]]:
    """Read a request, and the descriptors that came with it."""
    numbers = array.array("i")
    message, ancillary, _, _ = worker.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(8))
    for _, _, data in ancillary:
        numbers.frombytes(data)
    return message, list(numbers)
