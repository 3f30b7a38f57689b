"""The Slurm lab by hand: ``python -m tests.lab`` keeps it up until it is interrupted."""

import shlex
import signal
import sys
import threading
from types import FrameType
from typing import Never

from tests.lab.slurm_lab import CannotRun, SlurmLab

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Bring the lab up, say how to reach it, and take it down on Ctrl-C or SIGTERM."""
    try:
        lab = SlurmLab()
    except CannotRun as why:
        sys.stderr.write(f"No lab on this machine: {why}\n")
        return 1
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        lab.up()
    except KeyboardInterrupt:
        return 0  # it has taken itself down
    try:
        sys.stdout.write(_how_to_reach(lab))
        sys.stdout.flush()
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        lab.down()
    return 0


def _how_to_reach(lab: SlurmLab) -> str:
    return f"""\
# {lab.cluster} is up; Ctrl-C here takes it down. In another shell, for the worker too:
export PATH={shlex.quote(str(lab.root / "bin"))}:"$PATH"
export OUMI_SLURM_CONNECTIONS={shlex.quote(lab.cluster)}
# Then, for example:  ssh {lab.cluster} sinfo
#                     oumi-flows run job.yaml --cloud slurm
"""


def _interrupt(_number: int, _frame: FrameType | None) -> Never:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
