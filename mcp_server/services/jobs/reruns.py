"""Starts a new job from the frozen config and the arguments of another one."""

import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio.to_thread

from flows.core import names
from flows.core.configs.checks import parse_command
from flows.core.configs.last_checkpoint import (
    CheckpointQuestion,
    LastCheckpoint,
    find_last_checkpoint,
)
from flows.core.configs.own_checkpoints import Owner
from flows.core.configs.plan import OUTPUT_KEY, RESUME_KEY
from flows.core.configs.reader import ConfigFile, ConfigKind, submitted_config
from flows.core.errors import Conflict, InvalidArgument
from flows.core.file_names import expand_home
from flows.core.models import Command, JobRequest, OverrideValue
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.external import adopted_job
from mcp_server.services.jobs.finding import find_job
from mcp_server.services.jobs.log_files import LogFiles
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.status import job_request
from mcp_server.services.worker_calls import WorkerCalls

STEPS_KEY: Final = "training.max_steps"
_MORE: Final = re.compile(r"\+0*([1-9]\d{0,11})")
_WORKER_SECONDS: Final = 10.0


class Source(NamedTuple):
    """What a new job takes from an earlier one.

    Attributes:
        config: The config of the earlier job as it was submitted.
        labels: What the new run must say of it.
        notes: What a person must know, a sentence each.
    """

    config: ConfigFile
    labels: RunLabels
    notes: list[str]


class Requested(NamedTuple):
    """A job as it will be checked.

    Attributes:
        new: The job, with what it takes from its source.
        source: The source; None: the job has a config of its own.
    """

    new: NewJob
    source: Source | None = None


class Reruns:
    """Fills in a job that names another one as its source.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
        calls: Asks the worker of a source whose files are on another machine.
    """

    def __init__(
        self, gateway: PrefectGateway, *, snapshots_dir: Path, calls: WorkerCalls | None = None
    ) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir
        self._calls = calls or WorkerCalls(gateway)

    async def fill_in(self, new: NewJob) -> Requested:
        """Return the job with the config and arguments of its source, if it names one.

        An argument with its default is that of the source, `overrides` are merged, and folder and
        config are always those of the source. Results go to a folder of their own unless
        `overrides` say where.

        Raises:
            JobNotFound: There is no such job.
            InvalidArgument: The source has no config, or the arguments contradict it.
            Conflict: Its training cannot be continued.
            ConfigNotFound: The copy of its config is not on this machine.
        """
        more = _steps_to_add(new.overrides)
        if new.from_job is None:
            if more is not None:
                raise InvalidArgument(
                    f"override {STEPS_KEY} +{more} continues another job, and none is named",
                    f"Give from_job, or {STEPS_KEY} without +",
                )
            return Requested(new)
        run = await find_job(self._gateway, new.from_job)
        request = _request_of(run)
        _refuse_another_config(new, request, run)
        config = await anyio.to_thread.run_sync(
            submitted_config,
            Path(request.config_path),
            request.config_sha256,
            self._snapshots_dir,
        )
        labels, notes = RunLabels(from_job=run.id), _notes(new, request)
        overrides = new.overrides
        if more is not None:
            found = await self._last_checkpoint(run, request, config, overrides)
            overrides = overrides | {STEPS_KEY: found.step + more, RESUME_KEY: found.path}
            labels = labels.with_changes(RunLabels(resumed_attempt=1, resumed_from_step=found.step))
            notes.append(
                f"It continues {run.name} from step {found.step} to step {found.step + more}."
            )
        filled = _merge(new.model_copy(update={"overrides": overrides}), request)
        filled = _with_own_results(filled, new, config)
        if config.kind is ConfigKind.JOB:
            notes.append(f"Its script writes where that of {run.name} did.")
        return Requested(filled, Source(config, labels, notes))

    async def _last_checkpoint(
        self,
        run: FlowRun,
        request: JobRequest,
        config: ConfigFile,
        overrides: dict[str, OverrideValue],
    ) -> LastCheckpoint:
        """Find the checkpoint to continue from.

        Raises:
            InvalidArgument: The source is no training of this kind.
            Conflict: It has not ended, or has no whole checkpoint.
        """
        if config.kind is ConfigKind.JOB or request.command is not Command.TRAIN:
            raise InvalidArgument(
                f"{run.name} is no job of `oumi train`, so its training cannot be continued",
                "Leave + out, or write into its script how to continue",
            )
        if RESUME_KEY in overrides:
            raise InvalidArgument(
                f"overrides have {RESUME_KEY} and more steps than the last checkpoint",
                f"Give {STEPS_KEY} without +, or leave {RESUME_KEY} out",
            )
        if not run.state.job_state.is_terminal:
            raise Conflict(
                f"{run.name} is {run.state.job_state}, so its last checkpoint is not known yet",
                "Wait for it with wait_for_job or end it with cancel_job",
            )
        found = await self._read_last_checkpoint(run)
        if found.path is None:
            why = f": {'; '.join(found.skipped)}" if found.skipped else ""
            raise Conflict(
                f"{run.name} has no whole checkpoint in {run.labels.output_dir or 'any folder'}"
                f"{why}",
                f"Give {STEPS_KEY} without + to train from the beginning",
            )
        return found

    async def _read_last_checkpoint(self, run: FlowRun) -> LastCheckpoint:
        folder, logs = run.labels.output_dir, LogFiles.of(run)
        if not folder or run.start_time is None:
            return LastCheckpoint(summary="It never wrote anything.")
        question = CheckpointQuestion(folder=folder, owner=_owner(run))
        if logs is None or await anyio.to_thread.run_sync(logs.is_here):
            return await anyio.to_thread.run_sync(find_last_checkpoint, question)
        return await self._calls.call(
            names.LAST_CHECKPOINT_FLOW,
            {"question": question.model_dump(mode="json")},
            LastCheckpoint,
            timeout_seconds=_WORKER_SECONDS,
        )


def _request_of(run: FlowRun) -> JobRequest:
    """The request of a source.

    Raises:
        InvalidArgument: It has no config to run again.
    """
    request = job_request(run)
    if run.has_parts or request is None:
        raise InvalidArgument(
            f"{run.name} ({run.id}) is not one job with a config",
            "Give one of its jobs as from_job, or run its pipeline or sweep again",
        )
    if adopted_job(run) is not None:
        raise InvalidArgument(
            f"{run.name} was adopted, so there is no config to run again",
            "Give a config_path instead of from_job",
        )
    return request


def _refuse_another_config(new: NewJob, request: JobRequest, run: FlowRun) -> None:
    """Refuse a config that is not the one of the source."""
    if not new.config_path:
        return
    folder = new.client_cwd or request.client_cwd
    path = os.path.normpath(Path(folder, expand_home(new.config_path)))
    if path != request.config_path:
        raise InvalidArgument(
            f"config_path {new.config_path} is not the config of {run.name}",
            "Give config_path or from_job, not both",
        )


def _notes(new: NewJob, request: JobRequest) -> list[str]:
    notes: list[str] = []
    folder = os.path.normpath(expand_home(new.client_cwd)) if new.client_cwd else ""
    if folder and folder != os.path.normpath(request.client_cwd):
        notes.append(f"It runs in {request.client_cwd}, as its source did, not in {folder}.")
    if request.config_sha256 is None:
        notes.append(f"No copy of {request.config_path} was kept: the file of today is used.")
    return notes


def _steps_to_add(overrides: dict[str, OverrideValue]) -> int | None:
    """How many more steps to train; None: it is no continuation.

    Raises:
        InvalidArgument: The number cannot be read.
    """
    value = overrides.get(STEPS_KEY)
    if not isinstance(value, str) or not value.strip().startswith("+"):
        return None
    more = _MORE.fullmatch(value.strip())
    if more is None:
        raise InvalidArgument(
            f"override {STEPS_KEY} is {value[:40]!r}, no number of steps to add",
            'Write it as "+200"',
        )
    return int(more[1])


def _owner(run: FlowRun) -> Owner:
    """The source, as the owner of its checkpoints."""
    labels = run.labels
    return Owner.model_validate(
        {
            "job_id": run.id,
            "began_at": run.start_time.timestamp() if run.start_time else 0.0,
            "first_attempt": labels.fresh_attempt or 1,
            "fresh_since": labels.fresh_since,
            "ended_at": run.end_time.timestamp() if run.end_time else None,
        }
    )


def _merge(new: NewJob, request: JobRequest) -> NewJob:
    """Fill what `new` leaves at its defaults with what the source has."""
    nothing = NewJob()
    shared = NewJob.model_fields.keys() & JobRequest.model_fields.keys()
    left = {name for name in shared if getattr(new, name) == getattr(nothing, name)}
    kept: dict[str, Any] = request.model_dump(include=left)
    if new.cloud not in (names.LOCAL_CLOUD, request.cloud) and not new.cluster_name:
        kept.pop("cluster_name", None)  # it is a cluster of another cloud
    kept |= {
        "config_path": request.config_path,
        "client_cwd": request.client_cwd,
        "overrides": request.overrides | new.overrides,
        "envs": request.envs | new.envs,
    }
    return NewJob.model_validate(new.model_dump() | kept)


def _with_own_results(filled: NewJob, new: NewJob, config: ConfigFile) -> NewJob:
    """Keep the results of the source: the job writes below its folder, or where it was asked to."""
    own = config.kind is ConfigKind.COMMAND
    if own and not new.own_output:
        own = OUTPUT_KEY[parse_command(filled.command)] not in new.overrides
    return filled.model_copy(update={"own_output": own})
