"""`oumi` in the script of a local job: has the job's supervisor fork it, or executes the real one.

It takes the place of the real program in every respect: its arguments, environment, folder, open
files, limits and signals are those of the command, and it ends as the command ends. Whatever
prevents that makes it execute the real program instead. Standard library only.
"""

import array
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, Never

from flows.launcher.local.job_folder import JOB_DIR_ENV
from flows.launcher.local.warm import request as wire
from flows.launcher.local.warm.request import CommandRequest

WARM_COMMANDS: Final = frozenset(
    {"analyze", "eval", "evaluate", "infer", "judge", "quantize", "synth", "train", "tune"}
)
"""Commands of Oumi that do all their work in their own process."""
_ANSWER_SECONDS: Final = 10.0
_PASSED_ON: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)


def main(folder: str) -> Never:
    """Run `oumi` with the arguments of this process.

    Args:
        folder: Where this program is in PATH.
    """
    # Set before Python starts; only by then is what Python ignores itself among them.
    ignored = wire.ignored_signals()
    os.environ["PATH"] = _path_without(folder)
    program = _find_program()
    job_dir = os.environ.get(JOB_DIR_ENV)
    if sys.argv[1:2] and sys.argv[1] in WARM_COMMANDS and job_dir and sys.platform == "linux":
        with suppress(OSError, EOFError, ValueError):
            _run_warm(Path(job_dir), program, ignored=ignored)
    _execute(program)


def _run_warm(job_dir: Path, program: Path, *, ignored: list[int]) -> None:
    """Have the supervisor run the command, and end as it ends; return if it refuses."""
    request = CommandRequest.of_this_process(sys.argv[1:], program, ignored=ignored)
    folder = os.open(".", os.O_PATH)
    files = [*request.files, folder]
    message = request.encode()
    if len(message) > wire.MESSAGE_BYTES or len(files) > wire.MOST_FILES:
        return
    door = _connect(job_dir)
    door.settimeout(_ANSWER_SECONDS)
    descriptors = array.array("i", files).tobytes()
    door.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    os.close(folder)
    if door.recv(16) != wire.STARTED:
        return
    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken)
    for number in set(_PASSED_ON).difference(ignored):
        signal.signal(number, _note)
    door.send(wire.GO)
    _end_like(_wait(door, wake))


def _wait(door: socket.socket, wake: int) -> int:
    """Wait for the command's end, passing signals on.

    Returns:
        Its exit code, or minus the signal that ended it.
    """
    door.settimeout(None)
    poll = select.poll()
    poll.register(door, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wake in ready:
            for number in os.read(wake, 64):
                door.send(wire.SIGNAL + str(number).encode())
        if door.fileno() in ready:
            message = door.recv(64)
            if message.startswith(wire.ENDED):
                return int(message.removeprefix(wire.ENDED))
            if not message:
                # The supervisor died. The job's end is unknown then, whatever its script does.
                return -signal.SIGKILL


def _note(_number: int, _frame: FrameType | None) -> None:
    """Leave a signal to the descriptor that wakes."""


def _end_like(status: int) -> Never:
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command has left its own
        with suppress(OSError, ValueError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status >= 0 else 128 - status)


def _connect(job_dir: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # By a short path: an address has 108 bytes.
    folder = os.open(job_dir, os.O_PATH)
    try:
        door.connect(f"/proc/self/fd/{folder}/{wire.DOOR}")
    finally:
        os.close(folder)
    return door


def _path_without(folder: str) -> str:
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if entry != folder)


def _find_program() -> Path:
    for entry in os.get_exec_path():
        found = Path(entry, "oumi")
        if found.is_file() and os.access(found, os.X_OK):
            return found
    sys.stderr.write("oumi: command not found\n")
    sys.exit(127)


def _execute(program: Path) -> Never:
    # Python ignores them; a program must not find them ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(program, ["oumi", *sys.argv[1:]])  # noqa: S606 - the user's own command
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror}\n")
        sys.exit(126)
