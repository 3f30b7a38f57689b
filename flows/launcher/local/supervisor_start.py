"""Starting the supervisor of a local job. Standard library only."""

import os
import select
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from flows.core.errors import LaunchFailed
from flows.launcher.local.inherited_environment import inherited_environment
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.processes import open_descriptor
from flows.launcher.local.supervisor import READY

SOURCE_ROOT: Final = Path(__file__).parents[3]
"""The folder that holds the package `flows`."""
_START: Final = (
    "import sys; sys.path += sys.argv[2:]; "
    "from flows.launcher.local.supervisor import main; main(sys.argv[1])"
)
_START_TIMEOUT_SECONDS: Final = 30.0


class SupervisorStart(Protocol):
    """Starts supervisors."""

    def __call__(self, folder: JobFolder) -> None:
        """Start a supervisor and wait until it is ready; a surplus one ends by itself.

        Raises:
            LaunchFailed: It did not start.
        """
        ...


def start_bare(folder: JobFolder) -> None:
    """Start a supervisor as a bare interpreter; see `SupervisorStart`."""
    # NVML's module may be elsewhere than ours.
    nvml = find_spec("pynvml")
    roots = [str(SOURCE_ROOT), *([str(Path(nvml.origin).parent)] if nvml and nvml.origin else [])]
    command = [sys.executable, "-I", "-S", "-c", _START, str(folder.path), *roots]
    with (
        open_descriptor(folder.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as log,
        subprocess.Popen(
            command,
            cwd="/",
            env=inherited_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            start_new_session=True,
        ) as starter,
    ):
        assert starter.stdout is not None  # noqa: S101 - stdout=PIPE
        if not is_ready(starter.stdout.fileno()):
            raise LaunchFailed(
                f"the supervisor of job {folder.path.name} did not start",
                f"Read {folder.log_path}, then launch the job again",
            )


def is_ready(output: int) -> bool:
    """Wait until a supervisor says that it is ready; False if it has ended instead.

    One that says nothing for long counts as ready: it is late on a busy machine.

    Args:
        output: A descriptor of its output.
    """
    poll = select.poll()
    poll.register(output, select.POLLIN)
    answered = poll.poll(_START_TIMEOUT_SECONDS * 1000)
    return not answered or os.read(output, 1) == READY
