"""One collection: find the files, copy what is missing, prove every checksum."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import httpx

from flows.collecting.log import CollectionLog
from flows.collecting.sources import ClusterSource, LocalSource, Source
from flows.collecting.target import Target
from flows.core.errors import (
    CloudUnavailable,
    ClusterUnreachable,
    Conflict,
    InvalidArgument,
    LaunchFailed,
    OumiFlowsError,
)
from flows.core.models import JobProgress
from flows.core.results.choosing import ChosenFile, choose
from flows.core.results.reading import find_here
from flows.core.results.targets import refuse_other_sizes
from flows.core.results.values import CollectRequest, ResultsRequest
from flows.core.states import TerminationReason
from flows.job.outcome import Outcome
from flows.job.runtime import Runtime
from flows.launcher.remote_results import find_on_cluster

_PASSES: Final = 3
"""How often a file is copied whose content differs, because its job still writes to it."""
_PAUSES: Final = (2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds between tries while a cluster does not answer."""
_SHOW_SECONDS: Final = 1.0
_NAMED: Final = 3

T = TypeVar("T")


class ShowsProgress(Protocol):
    """Shows the progress of a run."""

    async def show(
        self, progress: JobProgress, *, observed_at: datetime, unreachable: str | None
    ) -> None:
        """Show it."""
        ...


class Collection:
    """A copy of the results of one job.

    Args:
        request: What to copy, and where to.
        progress: Shows how far the copy is.
        runtime: The launcher and the settings.
        log: The log of the copy.
        pauses: Seconds between tries while a cluster does not answer.
    """

    def __init__(
        self,
        request: CollectRequest,
        progress: ShowsProgress,
        runtime: Runtime,
        log: CollectionLog,
        *,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self._request = request
        self._runtime = runtime
        self._log = log
        self._progress = progress
        self._stop = threading.Event()
        self._target = Target(request.into, request.source.job_id, self._stop)
        self._pauses = list(pauses)

    async def outcome(self) -> Outcome:
        """Copy everything; say how it ended."""
        try:
            with self._target.hold():
                return await self._collect()
        except (InvalidArgument, Conflict) as error:
            return Outcome(TerminationReason.INVALID_CONFIG, str(error))
        except OumiFlowsError as error:
            return Outcome(TerminationReason.NONZERO_EXIT, str(error))
        except OSError as error:
            text = f"{error.filename or self._target.folder}: {error.strerror or error}"
            return Outcome(TerminationReason.NONZERO_EXIT, f"The copy failed: {text}. Call again")
        finally:
            self._stop.set()

    async def _collect(self) -> Outcome:
        source, files = await self._patiently(self._find)
        size = sum(file.size for file in files)
        self._log.say(f"{len(files)} files, {size:,} bytes, into {self._target.folder}")
        refuse_other_sizes(self._target.folder, files)
        present = [file for file in files if self._target.final(file).exists()]
        equal = await self._equal(source, present)
        left = [file for file in files if file not in equal]
        digests = equal | await self._patiently(lambda: source.checksums(left))
        self._log.say(f"{len(equal)} files are there already; copying {len(left)}")
        showing = asyncio.create_task(self._show(files, size))
        try:
            await self._copy(source, [file for file in left if file in digests], digests)
        finally:
            showing.cancel()
        manifest = await asyncio.to_thread(self._target.conclude, digests)
        await self._show_once(files, 100.0, len(files))
        gone = len(files) - len(digests)
        missing = f"; {gone} files were deleted meanwhile" if gone else ""
        return Outcome(
            TerminationReason.COMPLETED,
            f"{len(digests)} files, {size:,} bytes of {self._request.source_name} are in "
            f"{self._target.folder}; every checksum is equal{missing}. Manifest: {manifest}",
        )

    async def _find(self) -> tuple[Source, list[ChosenFile]]:
        wanted = self._request.source
        snapshots_dir = self._runtime.settings.snapshots_dir
        source: Source
        if wanted.handle is None:
            await asyncio.to_thread(_refuse_elsewhere, wanted)
            found = await asyncio.to_thread(find_here, wanted, snapshots_dir)
            found.refuse_target(str(self._target.folder))
            source = LocalSource(self._stop)
        else:
            remote = await find_on_cluster(
                wanted, wanted.handle, self._runtime.launcher, snapshots_dir=snapshots_dir
            )
            found, source = remote.found, ClusterSource(remote.files)
        return source, choose(found, self._request.what)

    async def _equal(self, source: Source, present: list[ChosenFile]) -> dict[ChosenFile, str]:
        """The checksums of the files that are in the target already."""
        digests = await self._patiently(lambda: source.checksums(present))
        equal = await asyncio.to_thread(self._target.find_equal, digests)
        return {file: digests[file] for file in equal}

    async def _copy(
        self, source: Source, files: list[ChosenFile], digests: dict[ChosenFile, str]
    ) -> None:
        """Copy files until each one's checksum is that of its source, and move it to its place."""
        for _ in range(_PASSES):
            await self._patiently(partial(source.copy, files, self._target))
            files = await asyncio.to_thread(self._accept, files, digests)
            if not files:
                return
            # Their job may have written to them since.
            again = await self._patiently(partial(source.checksums, files))
            for file in files:
                digests.pop(file)
            digests |= again
            files = await asyncio.to_thread(self._accept, list(again), digests)
            if not files:
                return
        names = ", ".join(file.path for file in files[:_NAMED])
        raise LaunchFailed(
            f"{len(files)} files differ from their source after {_PASSES} copies: {names}",
            "The job may still write to them; call again when it has ended",
        )

    def _accept(
        self, files: Sequence[ChosenFile], digests: Mapping[ChosenFile, str]
    ) -> list[ChosenFile]:
        """Move files to their places; return those whose content differs."""
        return [file for file in files if not self._target.accept(file, digests[file])]

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call while the cluster does not answer, for a few minutes."""
        while True:
            try:
                return await call()
            except ClusterUnreachable as error:
                if not self._pauses:
                    raise
                self._log.say(f"{error.sentences} Trying again.")
                await asyncio.sleep(self._pauses.pop(0))

    async def _show(self, files: Sequence[ChosenFile], size: int) -> None:
        """Keep the progress of the run up to date."""
        while True:
            sizes = await asyncio.to_thread(lambda: [self._target.size_of(one) for one in files])
            done = sum(one.size == here for one, here in zip(files, sizes, strict=True))
            await self._show_once(files, min(99.9, 100 * sum(sizes) / (size or 1)), done)
            await asyncio.sleep(_SHOW_SECONDS)

    async def _show_once(self, files: Sequence[ChosenFile], percent: float, done: int) -> None:
        progress = JobProgress(step=done, max_steps=len(files), percent=round(percent, 1))
        with suppress(httpx.HTTPError):
            await self._progress.show(progress, observed_at=datetime.now(UTC), unreachable=None)


def _refuse_elsewhere(wanted: ResultsRequest) -> None:
    """Refuse a job whose files are on another worker's machine. Blocking.

    Raises:
        CloudUnavailable: They are.
    """
    if wanted.log_paths and not any(Path(path).parent.is_dir() for path in wanted.log_paths):
        pool = wanted.work_pool or "unknown"
        where = f", in {wanted.output_dir}" if wanted.output_dir else ""
        raise CloudUnavailable(
            f"the files of job {wanted.job_id} are on the machine of the worker of work pool "
            f"{pool}{where}; this worker does not reach them",
            "get_job_results names that machine and lists the paths. Copy them with rsync or scp; "
            f"or collect into a folder that both machines share, with OUMI_FLOWS_WORK_POOL={pool}",
        )
