"""Which signal ended a script, and whether it came from outside. Standard library only."""

import re
import signal
from typing import Final

_FROM_OUTSIDE: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM}
)
"""What a person or the system sends; a program causes other signals itself."""
_CHILD_SIGNALLED: Final = 128
"""What bash adds to the number of the signal that ended what it ran, and exits with."""


_FIRST_FAILURE: Final = re.compile(
    r"Root Cause \(first observed failure\):.{0,400}?exitcode\s*: -(\d+) ", re.DOTALL
)
"""torchrun's report of the process that failed first (torch 2.10); itself it exits with 1."""


def signal_of_first_failure(tail: str) -> int | None:
    """The signal from outside that ended a process of torchrun first, by the end of its log."""
    found = _FIRST_FAILURE.findall(tail)
    return signal_from_outside(None, int(found[-1])) if found else None


def signal_from_outside(exit_code: int | None, number: int | None) -> int | None:
    """The signal by which a person or the system ended a script, or its last command.

    Args:
        exit_code: What the script exited with, if it did.
        number: The signal that ended the script itself, if one did.
    """
    ended_by = number or (exit_code or 0) - _CHILD_SIGNALLED
    return ended_by if ended_by in _FROM_OUTSIDE else None
