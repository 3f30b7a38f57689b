"""Copies what a job on a cluster uses, as its accounting reports, into the training record here."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.core.errors import OumiFlowsError
from flows.core.models import JobHandle
from flows.core.training.recorder import Recorder
from flows.core.training.usage_names import COMMANDS_FILE, CPU, DISK, RAM, RAM_PEAK, USAGE_SEGMENT
from flows.job.intervals import USUAL, Intervals
from flows.launcher.port import Launcher, UsageSample

_GROWTH: Final = 1.5
_RECORDED: Final = (RAM, RAM_PEAK, CPU, DISK)


class UsageCopy:
    """One segment of a record, to which each answer of the cluster is appended.

    A cluster that keeps no accounts is asked once, and once more after the job's end.

    Args:
        launcher: Asks the cluster.
        handle: The job.
        record: Folder of the record of the attempt.
        intervals: How long to wait between two questions.
    """

    def __init__(
        self, launcher: Launcher, handle: JobHandle, record: Path, *, intervals: Intervals = USUAL
    ) -> None:
        self._launcher = launcher
        self._handle = handle
        self._record = record
        self._recorder = Recorder(record, USAGE_SEGMENT)
        self._intervals = intervals
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Ask now and then from now on; a second call does nothing."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name=f"usage {self._record}")

    async def finish(self) -> None:
        """Ask once more, after the end of the job."""
        self.stop()
        with suppress(OumiFlowsError, OSError):
            await self._copy()

    def stop(self) -> None:
        """Stop asking."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        interval = self._intervals.usage
        while True:
            await asyncio.sleep(interval)
            interval = min(interval * _GROWTH, self._intervals.usage_longest)
            try:
                if not await self._copy():
                    return
            except (OumiFlowsError, OSError):
                pass  # the next round asks again

    async def _copy(self) -> bool:
        """Append an answer; return whether there was one."""
        sample = await self._launcher.read_usage(self._handle)
        if sample is not None:
            await asyncio.to_thread(self._append, sample)
        return sample is not None

    def _append(self, sample: UsageSample) -> None:
        values = sample.usage.model_dump(exclude_none=True, include=set(_RECORDED))
        self._recorder.log(sample.seconds, values)
        self._recorder.close()
        # Empty: how the job's commands started is not known.
        (self._record / COMMANDS_FILE).touch(mode=0o600)
