"""Local jobs on disk: launch, observe, cancel. Uses no Oumi, and only the standard library.

Layout: ``<root>/<cluster>/jobs/<job id>/`` (see `JobFolder`), and next to the clusters the
machine's ``.queue`` and ``.slots``. A job is submitted at the instant its folder appears, which
happens once; every process that uses the same root sees the same jobs.
"""

import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Final

from flows.core.errors import InvalidArgument, JobNotFound, LaunchFailed
from flows.core.names import JOB_KEY_ENV, slug
from flows.core.private_files import job_umask, make_private
from flows.launcher.local.gpus import read_gpus
from flows.launcher.local.job import LocalJob, LocalJobRequest, live_job, observe
from flows.launcher.local.job_folder import JOB_DIR_ENV, JobFolder, JobSpec
from flows.launcher.local.slot_queue import next_ticket, queue_folders
from flows.launcher.local.slots import Unit, make_units
from flows.launcher.local.supervisor_start import SupervisorStart, start_bare

_LOOK_SECONDS: Final = 0.01
_NAME_BYTES: Final = 200
_DOWN: Final = "down"
_TICKET: Final = attrgetter("ticket")


class LocalStore:
    """The local jobs under one root folder.

    Args:
        root: Where clusters and jobs are kept.
        slots: Jobs that run at once; None: the number of GPUs, at least 1.
        cancel_grace_seconds: From SIGTERM to SIGKILL when a job is cancelled.
        uses_control_groups: Whether jobs get a control group where the system allows one.
        start: Starts the supervisor of a job.
    """

    def __init__(
        self,
        root: Path,
        *,
        slots: int | None,
        cancel_grace_seconds: float,
        uses_control_groups: bool = True,
        start: SupervisorStart = start_bare,
    ) -> None:
        self._root = root
        self._start = start
        self._uses_control_groups = uses_control_groups
        self._chosen_slots = slots
        self._cancel_grace_seconds = cancel_grace_seconds
        self._ended: dict[tuple[str, str], LocalJob] = {}

    @cached_property
    def slots(self) -> int:
        """How many jobs run at once."""
        return self._chosen_slots or max(1, self.gpus)

    @property
    def gpus(self) -> int:
        """How many GPUs its jobs share."""
        return len({unit.device for unit in self._units if unit.device})

    @cached_property
    def _units(self) -> list[Unit]:
        return make_units(read_gpus().devices, self._chosen_slots)

    def launch(self, cluster: str, request: LocalJobRequest) -> LocalJob:
        """Submit a job and return once it runs or has its place in the queue.

        A key that was launched before returns its job unchanged. If its launcher died before the
        job could run, the job starts now.

        Raises:
            InvalidArgument: The cluster or the key cannot name a folder, or the job asks for more
                GPUs than there are.
            LaunchFailed: The job's folder could not be written or its supervisor not started.
        """
        job_id = request.key or f"{slug(request.name)}-{secrets.token_hex(4)}"
        for what, name in (("cluster name", cluster), ("job key", job_id)):
            if not _is_folder_name(name):
                raise InvalidArgument(
                    f"{what} {name!r} cannot name a folder",
                    f"Use up to {_NAME_BYTES} bytes without slashes, leading dots or control codes",
                )
        folder = self._folder(cluster, job_id)
        try:
            if not folder.path.is_dir():
                self._refuse_too_many(request)
                self._create(folder, cluster, job_id, request)
            (self._root / cluster / _DOWN).unlink(missing_ok=True)
            job = self._observe(cluster, job_id)
            if job is None:
                self._start(folder)
        except OSError as error:
            raise LaunchFailed(
                f"job {job_id} could not be launched in {folder.path}: {error.strerror}",
                "Correct that (free space, permissions), then launch it again",
            ) from error
        return job or self._observe(cluster, job_id) or live_job(folder, folder.spec())

    def get(self, cluster: str, job_id: str) -> LocalJob | None:
        """Observe a job; None if there is none, or its launch was not completed."""
        if not (_is_folder_name(cluster) and _is_folder_name(job_id)):
            return None
        return self._observe(cluster, job_id)

    def revive(self, cluster: str, job_id: str) -> bool:
        """Put a job that never ran back in the queue if its supervisor died; True if it did.

        Raises:
            LaunchFailed: Its new supervisor did not start.
        """
        if not (_is_folder_name(cluster) and _is_folder_name(job_id)):
            return False
        folder = self._folder(cluster, job_id)
        if not folder.path.is_dir() or self._observe(cluster, job_id) is not None:
            return False
        self._start(folder)
        return True

    def is_live(self, cluster: str, job_id: str) -> bool:
        """Whether the job waits or runs."""
        job = self.get(cluster, job_id)
        return job is not None and not job.state.is_terminal

    def jobs(self, cluster: str) -> list[LocalJob]:
        """The jobs of a cluster, in the order of submission."""
        found = (self._observe(cluster, job_id) for job_id in _names(self._root / cluster / "jobs"))
        return sorted(filter(None, found), key=_TICKET)

    def live_jobs(self, cluster: str | None = None) -> list[LocalJob]:
        """The jobs that have not ended, of one cluster or of all, in the order of submission."""
        clusters = _names(self._root) if cluster is None else [cluster]
        found = (job for name in clusters for job in self.jobs(name))
        return sorted((job for job in found if not job.state.is_terminal), key=_TICKET)

    def has_cluster(self, cluster: str) -> bool:
        """Whether a job was ever launched on the cluster."""
        return _is_folder_name(cluster) and (self._root / cluster / "jobs").is_dir()

    def clusters(self) -> list[str]:
        """The clusters that are up: all except those taken down whose jobs have ended."""
        return [
            name
            for name in sorted(_names(self._root))
            if not (self._root / name / _DOWN).exists() or self.live_jobs(name)
        ]

    def take_down(self, cluster: str) -> None:
        """Stop listing the cluster once its jobs have ended; the next launch lists it again."""
        (self._root / cluster / _DOWN).touch(mode=0o600)

    def cancel(
        self,
        cluster: str,
        job_id: str,
        *,
        grace_seconds: float | None = None,
        wait_seconds: float = 0.5,
    ) -> LocalJob:
        """Request a job's end and return soon, with an observation of the job.

        It is cancelled once none of its processes is left, at the latest shortly after the grace.
        A later request can shorten the grace. A job that has ended does not change.

        Args:
            cluster: The job's cluster.
            job_id: The job.
            grace_seconds: From SIGTERM to SIGKILL; None: as set at the launch.
            wait_seconds: How long to wait for the end before answering.

        Raises:
            JobNotFound: No such job was launched.
        """
        if not self.has_cluster(cluster) or not _is_folder_name(job_id):
            raise _not_found(cluster, job_id)
        folder = self._folder(cluster, job_id)
        job = self._observe(cluster, job_id)
        if job is not None and job.state.is_terminal:
            return job
        try:
            grace = folder.spec().cancel_grace_seconds if grace_seconds is None else grace_seconds
            folder.request_cancel(grace)
        except FileNotFoundError:
            raise _not_found(cluster, job_id) from None
        self._wake(folder)
        return self._await(cluster, job_id, lambda _: False, seconds=wait_seconds)

    def set_paused(
        self, cluster: str, job_id: str, *, paused: bool, wait_seconds: float = 1.0
    ) -> LocalJob:
        """Freeze the processes of a job, or let them go on; return soon, with an observation.

        A job that waits for its slot does not start while it is paused, and keeps its place in the
        order. A frozen one keeps its slot, as its memory stays in use. A later request replaces an
        earlier one, and a cancel ends a frozen job as it ends any other.

        Args:
            cluster: The job's cluster.
            job_id: The job.
            paused: True: freeze it; False: let it go on.
            wait_seconds: How long to wait for that before answering.

        Raises:
            JobNotFound: No such job was launched, or an earlier version launched it.
        """
        job = self.get(cluster, job_id)
        if job is not None and job.state.is_terminal:
            return job
        folder = self._folder(cluster, job_id)
        try:
            folder.request_pause(paused=paused)
        except FileNotFoundError:
            raise _not_found(cluster, job_id) from None
        self._wake(folder)
        return self._await(
            cluster, job_id, lambda job: job.is_paused is paused, seconds=wait_seconds
        )

    def _await(
        self, cluster: str, job_id: str, check: Callable[[LocalJob], bool], *, seconds: float
    ) -> LocalJob:
        """Observe a job until it has ended or passes a check, for so many seconds at most."""
        folder, deadline = self._folder(cluster, job_id), time.monotonic() + seconds
        while True:
            job = self._observe(cluster, job_id) or live_job(folder, folder.spec())
            if job.state.is_terminal or check(job) or time.monotonic() > deadline:
                return job
            time.sleep(_LOOK_SECONDS)

    def _wake(self, folder: JobFolder) -> None:
        """Wake the job's supervisor to read the request; start a new one if it died."""
        pid = folder.supervisor_pid()
        if pid is None:
            self._start(folder)
        elif pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def _create(
        self, folder: JobFolder, cluster: str, job_id: str, request: LocalJobRequest
    ) -> None:
        for directory in (folder.path.parent, *queue_folders(self._root)):
            make_private(directory)
        spec = JobSpec(
            job_id=job_id,
            name=request.name,
            cluster=cluster,
            shell=shutil.which("bash") or "/bin/bash",
            env={**request.env, JOB_KEY_ENV: job_id, JOB_DIR_ENV: str(folder.path)},
            working_dir=request.working_dir,
            cancel_grace_seconds=self._cancel_grace_seconds,
            submitted_at=time.time(),
            ticket=next_ticket(self._root),
            units=self._units,
            gpus=request.gpus,
            sets_devices=request.sets_devices,
            is_keyed=request.key is not None,
            uses_control_group=self._uses_control_groups,
            umask=job_umask(),
        )
        folder.create(spec, setup=request.setup, run=request.run)

    def _refuse_too_many(self, request: LocalJobRequest) -> None:
        if request.gpus > self.gpus:
            raise InvalidArgument(
                f"the job asks for {request.gpus} GPUs, and this machine has {self.gpus}",
                f"Ask for {self.gpus} or fewer, or use a machine with more"
                if self.gpus
                else "Leave gpus out, or use a machine with GPUs",
            )

    def _folder(self, cluster: str, job_id: str) -> JobFolder:
        return JobFolder(self._root / cluster / "jobs" / job_id)

    def _observe(self, cluster: str, job_id: str) -> LocalJob | None:
        known = self._ended.get((cluster, job_id))
        if known is not None:
            return known
        job = observe(self._folder(cluster, job_id))
        if job is not None and job.state.is_terminal:
            self._ended[cluster, job_id] = job
        return job


def _is_folder_name(name: str) -> bool:
    return (
        name.isprintable()
        and 0 < len(os.fsencode(name)) <= _NAME_BYTES
        and "/" not in name
        and not name.startswith(".")
    )


def _names(directory: Path) -> list[str]:
    """The entries of a folder, without our own hidden ones; none if it does not exist."""
    try:
        return [name for name in os.listdir(directory) if not name.startswith(".")]  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def _not_found(cluster: str, job_id: str) -> JobNotFound:
    return JobNotFound(
        f"local cluster {cluster!r} has no job {job_id!r}", "List the cluster's jobs for their ids"
    )
