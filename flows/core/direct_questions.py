"""Questions to a worker on the same machine, over a socket in the engine's private folder.

A question is what a run of a flow that answers would get and return, without the run: the flow's
name and parameters, and its answer or the text of its error. The worker greets first, so that an
asker knows at once whether it can answer now.
"""

import errno
import hashlib
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flows.core.models import Value
from flows.core.names import PRE_FLIGHT_FLOW, VALIDATE_FLOW

DIRECT_FLOWS: Final = {
    VALIDATE_FLOW: "flows.answers.validate_config.validate_config",
    PRE_FLIGHT_FLOW: "flows.answers.pre_flight_check.pre_flight_check",
}
"""The flows that can be asked so, and their entry points: those that change nothing."""

LONGEST_BYTES: Final = 4 << 20
_LONGEST_PATH: Final = 100
"""Linux takes 107 bytes as the path of a socket, macOS 103."""


class Greeting(Value):
    """What a worker says to an asker first.

    Attributes:
        version: Its version of oumi-flows.
        is_ready: Whether it has loaded Oumi, without which it answers nothing.
    """

    version: str
    is_ready: bool


class Question(Value):
    """What is asked: a flow and its parameters, as JSON."""

    flow: str
    parameters: dict[str, Any]


class Reply(Value):
    """The answer of the flow as JSON, or the text of its error."""

    answer: dict[str, Any] | None = None
    refusal: str = ""


@contextmanager
def socket_path(folder: Path, *, api_url: str, work_pool: str) -> Generator[str]:
    """The path of the socket of the worker for a pool; to be used within the context.

    Args:
        folder: The engine's folder.
        api_url: The Prefect server of the worker.
        work_pool: Its pool.

    Raises:
        OSError: There is no such folder, or its path is too long for this system.
    """
    digest = hashlib.sha256(f"{api_url} {work_pool}".encode()).hexdigest()[:12]
    path = folder / f"worker-{digest}.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    if sys.platform != "linux":
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{path.name}"
    finally:
        os.close(opened)
