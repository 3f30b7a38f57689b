"""Takes requests for commands on a socket in the job's folder, and forks them.

It belongs to a supervisor that was forked from the warm host. Standard library only.
"""

import array
import fcntl
import json
import os
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from flows.launcher.local.warm import request as wire
from flows.launcher.local.warm.request import CommandRequest

_BACKLOG: Final = 64
_PEER: Final = struct.Struct("3i")


class Became(BaseException):
    """Raised in a forked process, which leaves all that the supervisor was doing by it.

    Attributes:
        request: The command it is now.
        files: Its descriptors; those of the request, then one of its folder.
        go: Where a byte, or the end, says whether the command begins.
    """

    def __init__(self, request: CommandRequest, files: list[int], go: int) -> None:
        super().__init__()
        self.request, self.files, self.go = request, files, go


class _Command(NamedTuple):
    """A command that was forked for the process at the other end of a connection."""

    pid: int
    go: int


class Door:
    """The commands of one job.

    Args:
        job_dir: The job's folder.
        programs: Folder of the `oumi` that asks for commands, for the PATH of the job.
        notes: File that gets a line for each command: how it started, and why so.
        judge: Says why a request must run as a new process, given the pid that asks; empty: it
            can be forked.
        enter: Takes a forked process in among those of the job.
    """

    def __init__(
        self,
        job_dir: Path,
        *,
        programs: str,
        notes: Path,
        judge: Callable[[CommandRequest, int], str],
        enter: Callable[[int], None],
    ) -> None:
        self._job_dir = job_dir
        self._notes = notes
        self.programs = programs
        self._judge = judge
        self._enter = enter
        self._socket: socket.socket | None = None
        self._waiting: list[socket.socket] = []
        self._commands: dict[socket.socket, _Command] = {}
        self._is_ending = False

    def open(self) -> bool:
        """Take requests from now on; False if this folder can hold no socket."""
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(self._job_dir, os.O_PATH)
        try:
            with suppress(FileNotFoundError):
                os.unlink(wire.DOOR, dir_fd=folder)
            # By a short path: an address has 108 bytes.
            door.bind(f"/proc/self/fd/{folder}/{wire.DOOR}")
        except OSError:
            door.close()
            return False
        finally:
            os.close(folder)
        door.listen(_BACKLOG)
        _signal_when_ready(door)
        self._socket = door
        return True

    def close(self) -> None:
        """Take no more requests."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with suppress(OSError):
                (self._job_dir / wire.DOOR).unlink()

    def end(self) -> None:
        """Start and signal no command from now on: the supervisor ends the whole job."""
        self._is_ending = True

    def serve(self) -> None:
        """Do what has been requested; returns at once.

        Raises:
            Became: This is a process forked for a request.
        """
        while self._socket is not None and not self._is_ending:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # no more of them
                break
            _signal_when_ready(connection)
            self._waiting.append(connection)
        for connection in list(self._waiting):
            self._take_request(connection)
        for connection in list(self._commands):
            self._take_messages(connection)

    def note_end(self, pid: int, status: int) -> None:
        """Tell the process that waits for `pid` how it ended, if that was a command."""
        for connection, command in list(self._commands.items()):
            if command.pid == pid:
                with suppress(OSError):
                    connection.send(wire.ENDED + str(status).encode())
                self._forget(connection)

    def _take_request(self, connection: socket.socket) -> None:
        files: list[int] = []
        try:
            message, files = _receive(connection)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        self._waiting.remove(connection)
        try:
            self._answer(connection, message, files)
        except (OSError, ValueError, TypeError):  # of another version, or it has gone
            connection.close()
        finally:
            for number in files:
                os.close(number)

    def _answer(self, connection: socket.socket, message: bytes, files: list[int]) -> None:
        request = CommandRequest.decode(message)
        if len(files) != len(request.files) + 1:
            raise ValueError("descriptors are missing")
        why = self._judge(request, _peer(connection))
        self._note(request, why)
        if why:
            connection.send(wire.REFUSED)
            connection.close()
            return
        self._fork(connection, request, files)

    def _fork(self, connection: socket.socket, request: CommandRequest, files: list[int]) -> None:
        go, start = os.pipe()
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._leave()
            raise Became(request, [os.dup(number) for number in files], go)
        os.close(go)
        self._enter(pid)
        self._commands[connection] = _Command(pid, start)
        connection.send(wire.STARTED)

    def _leave(self) -> None:
        """Close the sockets of others in a forked process, before their objects do it later."""
        for connection in (self._socket, *self._waiting, *self._commands):
            if connection is not None:
                connection.close()

    def _take_messages(self, connection: socket.socket) -> None:
        while connection in self._commands:
            try:
                message = connection.recv(64)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            self._obey(connection, message)

    def _obey(self, connection: socket.socket, message: bytes) -> None:
        command = self._commands[connection]
        if message == wire.GO:
            os.write(command.go, b"g")
            os.close(command.go)
            self._commands[connection] = command._replace(go=-1)
        elif message.startswith(wire.SIGNAL):
            if not self._is_ending:
                os.kill(command.pid, int(message.removeprefix(wire.SIGNAL)))
        elif not message:
            # What stands for the command was killed, or has given up on it.
            if command.go < 0:
                os.kill(command.pid, signal.SIGKILL)
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        _close(self._commands.pop(connection).go)
        connection.close()

    def _note(self, request: CommandRequest, why: str) -> None:
        line = {"command": request.argv[0], "start": "cold" if why else "warm", "why": why}
        with suppress(OSError):
            self._notes.parent.mkdir(mode=0o700, exist_ok=True)
            with self._notes.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Read a request and its descriptors."""
    numbers = array.array("i")
    space = socket.CMSG_SPACE(wire.MOST_FILES * numbers.itemsize)
    message, ancillary, _, _ = connection.recvmsg(wire.MESSAGE_BYTES, space)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return message, list(numbers)


def _peer(connection: socket.socket) -> int:
    """The pid of the process at the other end."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(data)[0])


def _signal_when_ready(connection: socket.socket) -> None:
    """Have SIGIO sent to this process whenever the socket has something to read."""
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_ASYNC)
    connection.settimeout(0.0)


def _close(number: int) -> None:
    if number >= 0:
        os.close(number)
