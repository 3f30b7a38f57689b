"""What `oumi` in a job's script sends to the job's supervisor. Standard library only."""

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any, Final, NamedTuple

DOOR: Final = "door"
"""Socket in the job's folder, on which its supervisor takes requests."""
MESSAGE_BYTES: Final = 160_000
"""Longest message; Linux allows a packet of about 200 kB by default."""
MOST_FILES: Final = 200
"""Most descriptors of one request; the kernel allows 253 (SCM_MAX_FD)."""

GO: Final = b"go"
"""The sender waits for the command's end; until then the command does not begin."""
REFUSED: Final = b"no"
"""The supervisor does not run the command."""
STARTED: Final = b"pid"
ENDED: Final = b"end "
"""Followed by the exit code, or minus the signal that ended the command."""
SIGNAL: Final = b"signal "
"""Followed by the number of a signal for the command."""

_LIMITS: Final = sorted({getattr(resource, n) for n in dir(resource) if n.startswith("RLIMIT_")})
_SIGNALS: Final = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class CommandRequest(NamedTuple):
    """Everything that a process passes on to the program it executes."""

    argv: list[str]
    """Arguments after the program's name."""
    program: str
    """The `oumi` that would run otherwise."""
    env: dict[str, str]
    files: list[int]
    """Numbers of the open descriptors, which travel with the request in this order."""
    umask: int
    nice: int
    affinity: list[int]
    limits: dict[str, list[int]]
    """Soft and hard limit of each resource, by its number as text."""
    ignored: list[int]
    """Signals that the program would ignore from its start."""
    blocked: list[int]

    @classmethod
    def of_this_process(
        cls, argv: list[str], program: Path, *, ignored: list[int]
    ) -> "CommandRequest":
        """Describe this process, which would execute `program` with `argv`.

        Args:
            argv: Arguments after the program's name.
            program: The `oumi` that would run otherwise.
            ignored: Signals that this process was started to ignore.
        """
        umask = os.umask(0)
        os.umask(umask)
        return cls(
            argv=argv,
            program=str(program),
            env=dict(os.environ),
            files=open_files(),
            umask=umask,
            nice=os.getpriority(os.PRIO_PROCESS, 0),
            affinity=sorted(os.sched_getaffinity(0)),
            limits={str(number): list(resource.getrlimit(number)) for number in _LIMITS},
            ignored=ignored,
            blocked=sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        )

    def encode(self) -> bytes:
        """The message; surrogates stand for bytes that are no text."""
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, message: bytes) -> "CommandRequest":
        """Read a message.

        Raises:
            ValueError, TypeError: It is no request of this version.
        """
        fields: dict[str, Any] = json.loads(message)
        return cls(**fields)


def open_files() -> list[int]:
    """The open descriptors of this process that a program it executes would inherit."""
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [number for number in numbers if _is_inherited(number)]


def ignored_signals() -> list[int]:
    """The signals that this process ignores, but for those that Python itself ignores."""
    ignored = {number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_IGN}
    return sorted(ignored - {signal.SIGPIPE, signal.SIGXFSZ})


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the listing's own descriptor, closed by now
        return False
