"""What a job used, as Slurm's accounting reports it.

`sstat` has the steps of a running job, and `sacct` those of one that has ended, where the cluster
gathers and keeps accounts. Where it does not, there is no answer. Seen with Slurm 23.11.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from flows.core.models import Usage
from flows.launcher.port import UsageSample

_USAGE: Final = """\
steps='MaxRSS,TRESUsageInTot,TRESUsageOutTot'
squeue --noheader --jobs="$id" --format='elapsed|%M' 2>/dev/null
sstat --noheader --parsable2 --noconvert --allsteps --jobs="$id" --format="$steps" 2>/dev/null |
  sed 's/^/live|/'
sacct --noheader --parsable2 --noconvert --jobs="$id" \\
  --format="$steps,TotalCPU,ElapsedRaw" 2>/dev/null | sed 's/^/kept|/'
exit 0
"""
_TIME: Final = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_KEPT_FIELDS: Final = 5


class _Step(NamedTuple):
    """A step of a job, or the whole job.

    Attributes:
        ram_peak: Most bytes of one of its tasks.
        ram: Bytes of all its tasks: now while it runs, else the sum of their peaks.
        written: Bytes that its tasks wrote.
    """

    ram_peak: float | None
    ram: float | None
    cpu: float | None
    written: float | None


def usage_script(job_id: str) -> str:
    """Return the script that prints what a job has used so far."""
    return f"id={shlex.quote(job_id)}\n{_USAGE}"


def parse_usage(text: str) -> UsageSample | None:
    """Parse the output of `usage_script`; None: this cluster keeps no account of it."""
    rows = [line.split("|") for line in text.splitlines()]
    live = [_step(row[1:]) for row in rows if row[0] == "live"]
    kept = [row[1:] for row in rows if row[0] == "kept" and len(row) > _KEPT_FIELDS]
    elapsed = [_seconds(row[1]) for row in rows if row[0] == "elapsed" and len(row) > 1]
    elapsed += [float(row[4]) for row in kept if row[4].isdecimal()]
    seconds = int(max((one for one in elapsed if one is not None), default=0))
    usage = _sum_live(live) if live else _sum_kept(kept)
    known = usage.model_dump(exclude_none=True, exclude={"gpus"})
    return UsageSample(seconds=seconds, usage=usage) if known else None


def _sum_live(steps: list[_Step]) -> Usage:
    """The steps that run now, which run side by side."""
    ram = _sum(step.ram for step in steps)
    peaks = [ram, *(step.ram_peak for step in steps)]
    return Usage(
        ram_bytes=ram,
        ram_peak_bytes=_most(peaks),
        cpu_seconds=_sum(step.cpu for step in steps),
        disk_written_bytes=_sum(step.written for step in steps),
    )


def _sum_kept(rows: list[list[str]]) -> Usage:
    """All steps of a job; its first row is the whole job, which alone has exact times."""
    steps = [_step(row) for row in rows]
    # Steps may have run one after another: the largest one is the least that was needed at once.
    peak = _most(value for step in steps for value in (step.ram, step.ram_peak))
    measured = peak is not None
    return Usage(
        ram_peak_bytes=peak,
        # The clock of a cluster that gathers nothing stays at 0.
        cpu_seconds=_most(_seconds(row[3]) for row in rows) if measured else None,
        disk_written_bytes=_sum(step.written for step in steps),
    )


def _step(row: list[str]) -> _Step:
    peak, used, written = (*row, "", "", "")[:3]
    values = _values(used)
    return _Step(
        ram_peak=float(peak) if peak.isdecimal() else None,
        ram=_number(values.get("mem")),
        cpu=_seconds(values.get("cpu", "")),
        written=_number(_values(written).get("fs/disk")),
    )


def _values(text: str) -> Mapping[str, str]:
    """Parse ``cpu=00:00:01,mem=4096``."""
    pairs = (item.partition("=") for item in text.split(","))
    return {key: value for key, equals, value in pairs if equals}


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None


def _seconds(text: str) -> float | None:
    """Parse ``1-02:03:04`` or ``03:04.5``."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
