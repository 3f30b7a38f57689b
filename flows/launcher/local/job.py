"""A local job: its request, and one observation of it."""

import json
from dataclasses import dataclass
from pathlib import Path

from flows.core.states import JobState, ProcessHolder, TerminationReason
from flows.core.stopwatch import boot_id
from flows.launcher.local.job_folder import ExitRecord, JobFolder, JobSpec, ProcessRecord
from flows.launcher.local.job_tree import JobTree


@dataclass(frozen=True, kw_only=True)
class LocalJobRequest:
    """What to run; `key` names the job, and launching a key twice launches it once."""

    name: str
    run: str
    setup: str = ""
    env: dict[str, str]
    """Besides the worker's own, which the job inherits."""
    working_dir: str
    key: str | None = None
    sets_devices: bool = False
    """Whether the job chooses its GPUs itself."""
    gpus: int = 0
    """Whole GPUs that it asks for; 0: one share of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJob:
    """One observation of a job; after its end, the last one."""

    job_id: str
    name: str
    cluster: str
    state: JobState
    phase: str
    """``queued``, ``setup`` or ``run``: the part it is in, or ended in."""
    submitted_at: float
    started_at: float | None
    ended_at: float | None = None
    reason: TerminationReason | None = None
    exit_code: int | None = None
    signal: int | None = None
    held_by: ProcessHolder | None = None
    """What keeps track of all its processes; None: it has not started."""
    ticket: int
    log_path: Path
    job_dir: Path
    gpus: int = 0
    """Whole GPUs that it asks for; 0: one share of the machine."""
    is_paused: bool | None = None
    """Whether its processes are frozen; None: they cannot be."""


def observe(folder: JobFolder) -> LocalJob | None:
    """Observe a job; None if there is none, or it never ran and a launch can start it.

    A job whose processes all died unobserved is recorded as lost, for good.
    """
    try:
        spec = folder.spec()
        # In this order: the records of a job without a supervisor no longer change.
        is_supervised = folder.supervisor_pid() is not None
        ended = folder.exit_record()
        if ended is None:
            if is_supervised or _has_processes(folder, spec):
                return live_job(folder, spec)
            ended = _record_loss(folder, spec)
    except (FileNotFoundError, json.JSONDecodeError):
        return None  # no job's folder, or one that did not survive a power failure
    return None if ended is None else _ended_job(folder, spec, ended)


def live_job(folder: JobFolder, spec: JobSpec) -> LocalJob:
    """Describe the job, assuming that it waits or runs."""
    process = folder.process_record()
    state = JobState.QUEUED if process is None else JobState.RUNNING
    if folder.cancel_request() is not None:
        state = JobState.CANCELLING
    return LocalJob(
        job_id=spec.job_id,
        name=spec.name,
        cluster=spec.cluster,
        state=state,
        phase="queued" if process is None else folder.phase(),
        submitted_at=spec.submitted_at,
        started_at=None if process is None else process.started_at,
        held_by=_holder(process),
        ticket=spec.ticket,
        job_dir=folder.path,
        log_path=folder.log_path,
        gpus=spec.gpus,
        is_paused=folder.is_paused(),
    )


def _holder(process: ProcessRecord | None) -> ProcessHolder | None:
    if process is None:
        return None
    return ProcessHolder.CONTROL_GROUP if process.control_group else ProcessHolder.PROCESS_TREE


def _has_processes(folder: JobFolder, spec: JobSpec) -> bool:
    """Whether a job without a supervisor still runs."""
    process = folder.process_record()
    if process is None or process.boot_id != boot_id():
        return False
    tree = JobTree(folder, spec)
    tree.adopt(process)
    return bool(tree.members())


def _record_loss(folder: JobFolder, spec: JobSpec) -> ExitRecord | None:
    """Record that a job ended unobserved; None if it never ran and a launch can still start it."""
    process = folder.process_record()
    if process is None and (spec.is_keyed or not folder.was_supervised()):
        return None
    was_asked = folder.cancel_request() is not None
    started_at = process.started_at if process else None
    if process is not None:
        tree = JobTree(folder, spec)
        tree.adopt(process)
        tree.remove_group()
    folder.record_exit(
        ExitRecord(
            reason=TerminationReason.USER_CANCELLED if was_asked else TerminationReason.LOST,
            exit_code=None,
            signal=None,
            phase=folder.phase() if process else "queued",
            started_at=started_at,
            # The last sign of life.
            ended_at=max(started_at or spec.submitted_at, folder.log_path.stat().st_mtime),
        ),
        reserved=False,
    )
    return folder.exit_record()


def _ended_job(folder: JobFolder, spec: JobSpec, record: ExitRecord) -> LocalJob:
    reason = TerminationReason(record.reason)
    return LocalJob(
        job_id=spec.job_id,
        name=spec.name,
        cluster=spec.cluster,
        state=reason.job_state,
        reason=reason,
        exit_code=record.exit_code,
        signal=record.signal,
        phase=record.phase,
        submitted_at=spec.submitted_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        held_by=_holder(folder.process_record()),
        ticket=spec.ticket,
        job_dir=folder.path,
        log_path=folder.log_path,
    )
