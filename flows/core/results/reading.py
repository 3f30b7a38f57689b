"""Read the results of a job on this machine. Blocking."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flows.core.results.best import LoggedValue
from flows.core.results.describing import Found
from flows.core.results.here import Here, list_here
from flows.core.results.outputs import find_outputs
from flows.core.results.values import ResultsRequest
from flows.core.training.recorder import record_folder

_POINTS: Final = 10_000
_METRICS: Final = ("eval_loss", "loss")


def find_here(wanted: ResultsRequest, snapshots_dir: Path) -> Found:
    """Find the results of a job of this machine.

    Args:
        wanted: The job.
        snapshots_dir: Where configs are kept as submitted.
    """
    # The engine writes to its own folder while any job runs.
    outputs = find_outputs(wanted, snapshots_dir)
    listing = list_here(wanted, outputs, excluded=snapshots_dir.parent)
    return Found(wanted.job_id, listing, Here(), lambda: read_recorded(wanted.log_paths))


def read_recorded(log_paths: Sequence[str]) -> list[LoggedValue]:
    """Read the losses of the training record beside the logs of a job."""
    # It loads numpy, which the MCP server does without until then.
    from flows.core.training.record import TrainingRecord

    record = TrainingRecord([record_folder(Path(path)) for path in log_paths])
    found: list[LoggedValue] = []
    for metric in _METRICS:
        series = record.read(metric)
        rows = zip(series.steps, series.values, strict=True)
        found += [LoggedValue(metric, int(step), float(value)) for step, value in rows][-_POINTS:]
    return found


def this_machine() -> str:
    """The name of this machine, for people."""
    return platform.node() or "this machine"
