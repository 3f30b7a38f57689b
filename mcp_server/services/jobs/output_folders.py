"""Finds conflicts over the folder that a job writes to: a live job, or leftovers of another."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio.to_thread

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.configs.leftovers import Leftovers, read_leftovers
from flows.core.configs.overrides import apply_overrides
from flows.core.configs.plan import (
    OUTPUT_KEY,
    RESUME_KEY,
    TRY_RESUME_KEY,
    WRITES_A_FILE,
    JobPlan,
    lookup,
    make_plan,
)
from flows.core.configs.reader import ConfigKind, submitted_config
from flows.core.errors import JobNotFound, OumiFlowsError
from flows.core.findings import Finding, FindingCode, Severity
from flows.core.models import Command, JobRequest
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import ENDED, LIVE
from mcp_server.services.jobs.status import job_name, job_request
from mcp_server.services.jobs.submitting import CheckedJob

_WAITING: Final = frozenset({JobState.SCHEDULED, JobState.QUEUED, JobState.PENDING})
_STARTED: Final = LIVE - _WAITING
_WRITES_A_MODEL: Final = frozenset({Command.TRAIN, Command.TUNE, Command.QUANTIZE})
_NAMED: Final = 3
OUTPUT_CODES: Final = frozenset({FindingCode.OUTPUT_IN_USE, FindingCode.OUTPUT_HOLDS_RESULTS})
"""The codes of these findings."""


class OutputFolders:
    """Checks the folders that jobs of this machine write to.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
    """

    def __init__(self, gateway: PrefectGateway, *, snapshots_dir: Path) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir

    async def look(
        self,
        job: CheckedJob,
        *,
        live: list[FlowRun] | None = None,
        idempotency_key: str | None = None,
        later: bool = False,
    ) -> CheckedJob:
        """Add the findings about its folder to a job.

        Args:
            job: A job of this machine; others get no findings.
            live: The live jobs, if they were read already.
            idempotency_key: Key of the submission: a live job with it is the same job.
            later: Whether it starts later, when a job that is live now may have ended.

        Raises:
            EngineUnavailable: Prefect does not answer.
        """
        place = _place_of(job.plan)
        if not place or not is_local(job.plan.cloud) or job.request.own_output:
            return job
        live = [
            run
            for run in (await self.live() if live is None else live)
            if idempotency_key is None or run.idempotency_key != idempotency_key
        ]
        sharing = await anyio.to_thread.run_sync(self._sharing, job, place, live)
        found = [_in_use(job, run, later=later) for run in sharing]
        left = await self._note_leftovers(job, {run.id for run in sharing})
        return job._replace(findings=[*job.findings, *found, *left])

    async def look_at(
        self, job: CheckedJob, *, live: list[FlowRun] | None = None, later: bool = False
    ) -> CheckedJob:
        """Do the same, but do not start an engine that is down."""
        if self._gateway.is_found:
            with suppress(OumiFlowsError):
                return await self.look(job, live=live, later=later)
        return job._replace(findings=[*job.findings, *await self._note_leftovers(job, set())])

    async def live(self) -> list[FlowRun]:
        """Read the live jobs of this machine; of waiting ones only the last."""
        tags = (f"cloud:{names.LOCAL_CLOUD}",)
        found = await self._gateway.filter_runs(RunFilter(states=LIVE, tags=tags), limit=MAX_PAGE)
        if len(found) == MAX_PAGE:  # those that run are behind those that wait
            started = RunFilter(states=_STARTED, tags=tags)
            found += await self._gateway.filter_runs(started, limit=MAX_PAGE)
        return list({run.id: run for run in found}.values())

    async def live_if_found(self) -> list[FlowRun] | None:
        """Do the same; None if the engine is down."""
        with suppress(OumiFlowsError):
            return await self.live() if self._gateway.is_found else None
        return None

    def _sharing(self, job: CheckedJob, place: str, live: list[FlowRun]) -> list[FlowRun]:
        """Find the live jobs that write to the same place. Blocking."""
        folder = os.path.realpath(job.plan.output_dir or "")
        found: list[FlowRun] = []
        for run in live:
            named, request = run.labels.output_dir, job_request(run)
            if not named or request is None or request.own_output:
                continue
            if os.path.realpath(named) == folder and self._is_same(job, place, request):
                found.append(run)
        return found

    def _is_same(self, job: CheckedJob, place: str, other: JobRequest) -> bool:
        """Whether two jobs with one folder write over each other: some write one file in it."""
        if WRITES_A_FILE.isdisjoint({job.request.command, other.command}):
            return True
        try:
            config = submitted_config(
                Path(other.config_path), other.config_sha256, self._snapshots_dir
            )
            return os.path.realpath(_place_of(make_plan(other, config))) == os.path.realpath(place)
        except OumiFlowsError:
            return False

    async def _note_leftovers(self, job: CheckedJob, known: set[str]) -> list[Finding]:
        """Report what another job left in the folder, unless the config continues from it."""
        if not _begins_a_model(job):
            return []
        folder = Path(job.plan.output_dir or "")
        left = await anyio.to_thread.run_sync(read_leftovers, folder)
        writers = [str(job_id) for job_id in left.jobs]
        if not left.words or (writers and known.issuperset(writers)):
            return []
        return [_holds(job, left, await self._writers(folder, writers))]

    async def _writers(self, folder: Path, writers: list[str]) -> str:
        """Describe the writers of the files in a folder."""
        try:
            runs = await self._runs(folder, writers) if self._gateway.is_found else []
        except OumiFlowsError:
            runs = []
        known: Mapping[str, str] = {run.id: job_name(run, job_request(run)) for run in runs}
        ids = list(dict.fromkeys([*writers, *known]))[:_NAMED]
        words = [f"job {known[one]} ({one})" if one in known else f"job {one}" for one in ids]
        return " and ".join(words) or "an earlier training"

    async def _runs(self, folder: Path, writers: list[str]) -> list[FlowRun]:
        """Read the runs of these jobs; without ids, the last run that wrote to the folder."""
        if not writers:
            wanted = RunFilter(states=ENDED, tags=(f"cloud:{names.LOCAL_CLOUD}",))
            runs = await self._gateway.filter_runs(wanted, limit=MAX_PAGE)
            same = (run for run in runs if run.labels.output_dir == str(folder))
            return [run for run in [next(same, None)] if run is not None]
        found: list[FlowRun] = []
        for one in writers[:_NAMED]:
            with suppress(JobNotFound):
                found.append(await self._gateway.read_run(one))
        return found


def _place_of(plan: JobPlan) -> str:
    """The folder or the file that a job writes; empty: its script decides."""
    return plan.files.get("output", "") if plan.kind is ConfigKind.COMMAND else ""


def _begins_a_model(job: CheckedJob) -> bool:
    """Whether it trains a model without continuing from the files there."""
    request, plan = job.request, job.plan
    is_training = plan.kind is ConfigKind.COMMAND and request.command is Command.TRAIN
    if not is_training or request.own_output or not plan.output_dir:
        return False
    data = apply_overrides(job.config.data, request.overrides, request.command)
    return not any(lookup(data, request.command, key) for key in (RESUME_KEY, TRY_RESUME_KEY))


def _in_use(job: CheckedJob, run: FlowRun, *, later: bool) -> Finding:
    """Report that a live job writes to the same place."""
    request = job_request(run)
    state = run.state.job_state
    models = {job.request.command, request.command if request else None} <= _WRITES_A_MODEL
    blocks = models and state in _STARTED and not later and not job.request.skip_preflight
    key = OUTPUT_KEY[job.request.command]
    return Finding(
        code=FindingCode.OUTPUT_IN_USE,
        severity=Severity.ERROR if blocks else Severity.WARNING,
        message=f"job {job_name(run, request)} ({run.id}), which is {state}, writes to the same "
        f"{key}: {_place_of(job.plan)}",
        fix=f"Give another {key} or own_output, or wait for that job",
        file=job.request.config_path,
        key=key,
    )


def _holds(job: CheckedJob, left: Leftovers, writers: str) -> Finding:
    """Report that the folder holds files of another job."""
    key = OUTPUT_KEY[job.request.command]
    data = apply_overrides(job.config.data, job.request.overrides, job.request.command)
    adapts = lookup(data, job.request.command, "training.use_peft") in (True, "true")
    other = left.model if adapts else left.adapter
    mixes = f", and {other} would stay beside this job's own" if other else ""
    return Finding(
        code=FindingCode.OUTPUT_HOLDS_RESULTS,
        severity=Severity.WARNING,
        # The folder comes last: a text that is too long is cut at its end.
        message=f"{key} holds {left.words} of {writers}{mixes}: {job.plan.output_dir}",
        fix=f"Give another {key}, or own_output for a folder of its own below it",
        file=job.request.config_path,
        key=key,
    )
