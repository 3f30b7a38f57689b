"""Our copy of the log of a job that runs elsewhere, appended while it is written."""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.core.errors import CloudUnavailable, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.private_files import make_private, open_private
from flows.launcher.port import Launcher

_CHUNK_BYTES: Final = 1_000_000
_GROWTH: Final = 1.5
_LONGEST_SECONDS: Final = 30.0
"""Longest interval between two looks at a log that does not grow."""
_REST_SECONDS: Final = 15.0
"""How long the rest of the log of a job that has ended may take."""
_SETTLE_SECONDS: Final = 0.5


class LogCopy:
    """One file, of which every byte is at the same place as in the job's log.

    Its size is where the next look starts, so nothing is missed and nothing comes twice, whoever
    goes on with it. A look that stalls keeps up nobody but this copy.

    Args:
        launcher: Reads the log.
        handle: The job.
        path: The file.
        interval_seconds: Shortest interval between two looks.
    """

    def __init__(
        self, launcher: Launcher, handle: JobHandle, path: Path, *, interval_seconds: float
    ) -> None:
        self.path = path
        self._launcher = launcher
        self._handle = handle
        self._interval = interval_seconds
        self._following: asyncio.Task[None] | None = None

    @property
    def is_started(self) -> bool:
        """Whether there is anything to copy."""
        return self._following is not None

    def start(self) -> None:
        """Follow the log from now on; again does nothing."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name=f"log {self.path}")

    async def finish(self) -> bool:
        """Copy the rest of the log of a job that has ended; whether all of it was there."""
        self.stop()
        await self.catch_up()
        # What a node has written may take a moment to be seen from here.
        await asyncio.sleep(_SETTLE_SECONDS)
        return await self.catch_up()

    async def catch_up(self) -> bool:
        """Copy what there is now; whether that could be done in reasonable time."""
        try:
            async with asyncio.timeout(_REST_SECONDS):
                await self._copy_all()
        except (OumiFlowsError, OSError, TimeoutError):
            return False
        return True

    def stop(self) -> None:
        """Follow it no longer."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        interval = self._interval
        while True:
            grew = False
            try:
                grew = await self._copy_all()
            except CloudUnavailable:
                return  # its cloud lets nobody read logs
            except (OumiFlowsError, OSError):
                pass  # it is asked again
            interval = self._interval if grew else min(interval * _GROWTH, _LONGEST_SECONDS)
            await asyncio.sleep(interval)

    async def _copy_all(self) -> bool:
        """Append what there is; whether there was anything."""
        grew = False
        while True:
            offset = await asyncio.to_thread(self._size)
            chunk = await self._launcher.read_log(self._handle, offset=offset, limit=_CHUNK_BYTES)
            if not chunk:
                return grew
            await asyncio.to_thread(self._append, chunk, offset)
            grew = True

    def _size(self) -> int:
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def _append(self, chunk: bytes, offset: int) -> None:
        # A thread whose look was given up may still come here, after another has read the same.
        make_private(self.path.parent)
        with open_private(self.path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) == offset:
                file.write(chunk)
