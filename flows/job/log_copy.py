"""Our copy of the log of a job that runs elsewhere; it grows with the log."""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.core.errors import CloudUnavailable, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.private_files import make_private, open_private
from flows.job.intervals import USUAL, Intervals
from flows.launcher.port import Launcher

_CHUNK_BYTES: Final = 1_000_000
_GROWTH: Final = 1.5


class LogCopy:
    """One file, of which every byte is at the same place as in the job's log.

    The next look starts at its size, so nothing is missed or copied twice, even if another process
    continues. A look that stalls delays only this copy.

    Args:
        launcher: Reads the log.
        handle: The job.
        path: The file.
        interval_seconds: Shortest interval between two looks.
        intervals: How long other waits are.
        chunk_bytes: How much is read at once.
    """

    def __init__(
        self,
        launcher: Launcher,
        handle: JobHandle,
        path: Path,
        *,
        interval_seconds: float,
        intervals: Intervals = USUAL,
        chunk_bytes: int = _CHUNK_BYTES,
    ) -> None:
        self.path = path
        self._launcher = launcher
        self._handle = handle
        self._interval = interval_seconds
        self._intervals = intervals
        self._chunk_bytes = chunk_bytes
        self._following: asyncio.Task[None] | None = None

    @property
    def is_started(self) -> bool:
        """Whether there is anything to copy."""
        return self._following is not None

    def start(self) -> None:
        """Follow the log from now on; a second call does nothing."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name=f"log {self.path}")

    async def finish(self) -> bool:
        """Copy the rest of the log of a job that has ended; return whether all of it was read."""
        self.stop()
        await self.catch_up()
        await asyncio.sleep(self._intervals.log_settle)
        return await self.catch_up()

    async def catch_up(self) -> bool:
        """Copy what is there now; return whether that worked in reasonable time."""
        try:
            async with asyncio.timeout(self._intervals.log_rest):
                await self._copy_all()
        except (OumiFlowsError, OSError, TimeoutError):
            return False
        return True

    def stop(self) -> None:
        """Stop following the log."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        interval, longest = self._interval, self._intervals.log_longest
        while True:
            grew = False
            try:
                grew = await self._copy_all()
            except CloudUnavailable:
                return  # logs of its cloud cannot be read
            except (OumiFlowsError, OSError):
                pass  # the next round asks again
            interval = self._interval if grew else min(interval * _GROWTH, longest)
            await asyncio.sleep(interval)

    async def _copy_all(self) -> bool:
        """Append what is there; return whether there was anything."""
        grew = False
        while True:
            offset = await asyncio.to_thread(self._size)
            chunk = await self._launcher.read_log(
                self._handle, offset=offset, limit=self._chunk_bytes
            )
            if not chunk:
                return grew
            await asyncio.to_thread(self._append, chunk, offset)
            grew = True

    def _size(self) -> int:
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def _append(self, chunk: bytes, offset: int) -> None:
        # A thread that timed out may still arrive here, after another one has read the same bytes.
        make_private(self.path.parent)
        with open_private(self.path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) == offset:
                file.write(chunk)
