"""The use cases of jobs; the tools and the terminal both call this."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread

from flows.core import names
from flows.core.configs.clouds import is_local, kind_of
from flows.core.errors import JobNotFound
from flows.core.models import JobHandle, JobStatus
from flows.core.redaction import hide_tokens
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.families.listing import Families
from mcp_server.services.idempotency import refuse_another_request
from mcp_server.services.jobs.annotating import Annotation, Annotator
from mcp_server.services.jobs.cancelling import WAIT_SECONDS, CancelledJobs, Canceller
from mcp_server.services.jobs.comparing import Comparer, Comparison, Side
from mcp_server.services.jobs.external import LOOK_SECONDS, ExternalJobs, adoption
from mcp_server.services.jobs.finding import find_job, say_which
from mcp_server.services.jobs.job_filter import EVERY_JOB, JobFilter
from mcp_server.services.jobs.listing import JobLister
from mcp_server.services.jobs.logs import LogReader
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.notifications import Notifications, notify_tags
from mcp_server.services.jobs.output_folders import OutputFolders
from mcp_server.services.jobs.private_jobs import check_private_job
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.reruns import Requested, Reruns
from mcp_server.services.jobs.results import Adoption, JobList, JobLogs, Submission
from mcp_server.services.jobs.retrying import Retrier
from mcp_server.services.jobs.status import job_request, job_status, run_url
from mcp_server.services.jobs.submitting import (
    CheckedJob,
    describe_plan,
    describe_submission,
    keep_config,
    refuse_blocked,
    shorten,
    with_notes,
)
from mcp_server.services.jobs.waiting import why_waiting
from mcp_server.services.machines import describe_silence
from mcp_server.services.polls import Polls

OnChange = Callable[[JobStatus], Awaitable[None]]


class Until(StrEnum):
    """The state to wait for."""

    DONE = "done"
    RUNNING = "running"


class JobService:
    """Submits, reads, awaits, cancels and retries jobs.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
        records_dir: Where records of code, packages and data of jobs are kept.
        home: Where workers leave marks of their secrets.
        now: The clock.
        look_seconds: How long one look at a job of others waits for the worker's answer.
    """

    def __init__(
        self,
        gateway: PrefectGateway,
        *,
        snapshots_dir: Path,
        records_dir: Path,
        home: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir
        redactors = Redactors(snapshots_dir, home)
        self._comparer = Comparer(snapshots_dir, records_dir, redactors)
        self._now = now
        self._external = ExternalJobs(gateway, look_seconds=look_seconds)
        self._families = Families(gateway)
        self._outputs = OutputFolders(gateway, snapshots_dir=snapshots_dir)
        self._logs = LogReader(gateway, redactors)
        self._canceller = Canceller(gateway)
        self._retrier = Retrier(gateway, self._families)
        self._notifications = Notifications(gateway)
        self._lister = JobLister(gateway, now=now)
        self._annotator = Annotator(gateway)
        self._reruns = Reruns(gateway, snapshots_dir=snapshots_dir)

    async def plan(self, new: NewJob) -> Submission:
        """Return what `submit` would start; start nothing."""
        asked = await self._reruns.fill_in(new)
        checked = await self._outputs.look_at(await _check(asked))
        plan = await anyio.to_thread.run_sync(describe_plan, checked)
        return with_notes(plan, asked)

    async def submit(self, new: NewJob, *, idempotency_key: str | None = None) -> Submission:
        """Start a job; it is durable when this returns.

        Args:
            new: The job.
            idempotency_key: The same key always returns the same job.

        Raises:
            Conflict: The key belongs to a job with other arguments.
        """
        asked = await self._reruns.fill_in(new)
        checked = await _check(asked)
        refuse_blocked(checked)
        checked = await self._outputs.look(checked, idempotency_key=idempotency_key)
        refuse_blocked(checked)
        request = await anyio.to_thread.run_sync(keep_config, checked, self._snapshots_dir)
        labels = RunLabels(
            attempt=1,
            model_name=shorten(hide_tokens(checked.plan.model_name)) or None,
            # The worker names a folder of its own after the run.
            output_dir=None if request.own_output else checked.plan.output_dir or None,
        )
        if asked.source is not None:
            labels = labels.with_changes(asked.source.labels)
        notify = await self._notifications.tags(
            new.notify, new.notify_on, is_limited=bool(new.max_cost or new.max_gpu_hours)
        )
        # With a key of its own every submission can be sent again safely.
        run = await self._gateway.create_run(
            name=checked.run_name("").rstrip("-"),
            parameters={"request": request.model_dump(mode="json")},
            tags=[*names.run_tags(command=checked.command, cloud=request.cloud), *notify],
            labels=labels,
            idempotency_key=idempotency_key or uuid4().hex,
            work_queue=None if is_local(request.cloud) else names.CLOUD_QUEUE,
        )
        refuse_another_request(
            idempotency_key,
            run,
            kind="job",
            made_from=(job_request(run), notify_tags(run.tags)),
            asked_for=(request, notify),
        )
        name = checked.run_name(run.id)
        if run.name != name:
            await self._gateway.rename_run(run.id, name)
            run = run.model_copy(update={"name": name})
        url = run_url(await self._gateway.ui_url(), run.id)
        return with_notes(describe_submission(checked, run, url=url), asked)

    async def status(self, reference: str, *, cloud: str = "", cluster_name: str = "") -> JobStatus:
        """Read the status of a job.

        Args:
            reference: Id, unique id prefix or name; or the launcher's id of a job.
            cloud: Cloud of a job that is not one of ours.
            cluster_name: Its cluster.
        """
        found = await self._find(reference, cloud, cluster_name)
        if isinstance(found, JobHandle):
            return await self._external.look(found)
        status = await self.observe(found)
        return status.model_copy(update={"summary": status.summary + say_which(reference, found)})

    async def wait(
        self,
        reference: str,
        *,
        until: Until,
        timeout_seconds: float,
        on_change: OnChange | None = None,
    ) -> JobStatus:
        """Wait until a job reaches a state, or the time is up.

        Args:
            reference: Id, unique id prefix or name.
            until: The state to wait for.
            timeout_seconds: How long to wait at most.
            on_change: Called with each status that differs from the last.
        """
        deadline = time.monotonic() + timeout_seconds
        status = await self.status(reference)
        polls = Polls()
        reported: JobStatus | None = None
        while True:
            if on_change and (reported is None or _news(status) != _news(reported)):
                await on_change(status)
                reported = status
            left = deadline - time.monotonic()
            if is_reached(status.state, until) or left <= 0:
                return status
            await polls.pause(at_most=left)
            status = await self.observe(await self._gateway.read_run(status.job_id))

    async def logs(
        self,
        reference: str,
        *,
        lines: int,
        cursor: str | None = None,
        grep: str | None = None,
        cloud: str = "",
        cluster_name: str = "",
    ) -> JobLogs:
        """Read a job's log: its tail, or what follows a cursor.

        Args:
            reference: Id, unique id prefix or name.
            lines: Lines to return at most.
            cursor: Where an earlier call ended.
            grep: Regular expression that each line returned contains.
            cloud: Cloud of a job that is not one of ours.
            cluster_name: Its cluster.
        """
        found = await self._find(reference, cloud, cluster_name)
        if isinstance(found, JobHandle):
            return await self._external.logs(found, lines=lines, cursor=cursor, grep=grep)
        page = await self._logs.read(found, lines=lines, cursor=cursor, grep=grep)
        which = say_which(reference, found)
        return page.model_copy(update={"summary": page.summary + which})

    async def adopt(self, job: JobHandle) -> Adoption:
        """Adopt a job that was launched elsewhere; a second call returns the same job.

        Args:
            job: The job; the cluster may be empty if the cloud has only one.

        Raises:
            JobNotFound: Its cluster does not know it.
        """
        run = await self._external.adopt(job)
        return adoption(run, url=run_url(await self._gateway.ui_url(), run.id))

    async def cancel(
        self, reference: str, *, force: bool = False, cloud: str = "", cluster_name: str = ""
    ) -> JobStatus:
        """Ask a job to end; return `cancelled` if that is confirmed at once.

        Args:
            reference: Id, unique id prefix or name; or the launcher's id of a job.
            force: Kill the job instead of giving it time to stop.
            cloud: Cloud of a job that is not one of ours.
            cluster_name: Its cluster.

        Raises:
            JobAlreadyDone: The job has ended.
        """
        run = await self._find(reference, cloud, cluster_name)
        if isinstance(run, JobHandle):
            return await self._external.cancel(run, force=force)
        await self._canceller.request(run, force=force)
        return await self.wait(run.id, until=Until.DONE, timeout_seconds=WAIT_SECONDS)

    async def preview_cancel_all(self, wanted: JobFilter) -> CancelledJobs:
        """List the live jobs that `cancel_all` would end; change nothing."""
        return await self._canceller.preview(wanted)

    async def cancel_all(self, wanted: JobFilter, *, force: bool = False) -> CancelledJobs:
        """Ask every live job that matches a filter to end.

        Args:
            wanted: The filter.
            force: Kill them instead of giving them time to stop.

        Raises:
            OumiFlowsError: No job could be asked.
        """
        return await self._canceller.cancel_all(wanted, force=force)

    async def list(
        self, wanted: JobFilter = EVERY_JOB, *, limit: int = 20, cursor: str | None = None
    ) -> JobList:
        """List jobs, newest first.

        Args:
            wanted: Which jobs. Only status `scheduled` lists planned runs of schedules.
            limit: Jobs to return at most.
            cursor: Where an earlier call ended; it also keeps that call's filter.
        """
        return await self._lister.read_page(wanted, limit=limit, cursor=cursor)

    async def annotate(
        self, reference: str, *, note: str | None = None, tags: Sequence[str] | None = None
    ) -> Annotation:
        """Note something about a job, and tag it.

        Args:
            reference: Id, unique id prefix or name.
            note: The note; empty: none any more; None: as before.
            tags: All tags that people give it; None: as before.

        Raises:
            InvalidArgument: Neither is given, or one of them cannot be used.
        """
        run = await find_job(self._gateway, reference)
        return await self._annotator.annotate(run, note=note, tags=tags)

    async def retry(self, reference: str, *, resume: bool = True) -> JobStatus:
        """Start another attempt of a job that failed, crashed or was cancelled.

        Args:
            reference: Id, unique id prefix or name.
            resume: Continue from the last whole checkpoint instead of the beginning.

        Raises:
            Conflict: The job has not ended, or has succeeded.
        """
        run = await find_job(self._gateway, reference)
        await self._retrier.request(run, resume=resume)
        return await self.observe(await self._gateway.read_run(run.id))

    async def compare(self, a: str, b: str) -> Comparison:
        """Compare two jobs.

        Args:
            a: Id, unique id prefix or name of one job.
            b: That of the other.
        """
        one, other = await self._side(a), await self._side(b)
        commands = {side.run.command for side in (one, other) if side.run.command}
        others = [
            run for command in sorted(commands) for run in await self._read_succeeded(command)
        ]
        return await anyio.to_thread.run_sync(self._comparer.compare, one, other, others)

    async def _read_succeeded(self, command: str) -> Sequence[FlowRun]:
        """Read the last jobs of a command that succeeded."""
        succeeded = frozenset({JobState.SUCCEEDED})
        wanted = RunFilter(states=succeeded, tags=(f"{names.COMMAND_TAG}{command}",))
        return await self._gateway.filter_runs(wanted, limit=MAX_PAGE)

    async def _side(self, reference: str) -> Side:
        run = await find_job(self._gateway, reference)
        return Side(run=run, request=job_request(run), status=await self.observe(run))

    async def _find(self, reference: str, cloud: str, cluster_name: str) -> FlowRun | JobHandle:
        """Find our job, or make the handle of a foreign one."""
        try:
            return await find_job(self._gateway, reference)
        except JobNotFound:
            if not cloud or is_local(cloud):
                raise
        kind_of(cloud)
        job = JobHandle(cloud=cloud, cluster_name=cluster_name, launcher_job_id=reference.strip())
        return await self._external.ours(job) or job

    async def observe(self, run: FlowRun) -> JobStatus:
        """Read the status of the job of `run`."""
        state = run.state.job_state
        artifact = None
        if run.start_time is not None:
            found = await self._gateway.read_artifacts([run.id], artifact_type="progress")
            artifact = found[0] if found else None
        tail = ""
        if state in (JobState.FAILED, JobState.CRASHED):
            tail = await self._logs.error_tail(run)
        status = job_status(
            run,
            artifact,
            ui_url=await self._gateway.ui_url(),
            now=self._now(),
            error_tail=tail,
            waits_for=await why_waiting(self._gateway, run, now=self._now()),
            silence=await describe_silence(self._gateway, run),
        )
        if not run.has_parts:
            return status
        return await self._families.with_parts(status, run, now=self._now())


async def _check(asked: Requested) -> CheckedJob:
    """Check a job, with the config of its source if it has one."""
    config = asked.source.config if asked.source else None
    return await anyio.to_thread.run_sync(check_private_job, asked.new, config)


def _news(status: JobStatus) -> tuple[object, ...]:
    progress = status.progress
    parts = tuple((part.state, part.note) for part in status.parts)
    own = (status.state, status.reachable, status.attempt, progress.step, progress.max_steps)
    return (*own, *parts)


def is_reached(state: JobState, until: Until) -> bool:
    """Whether a job in a state is as far as the one to wait for."""
    # A job that is being cancelled will not run any more.
    on_its_way = until is Until.RUNNING and state in (JobState.RUNNING, JobState.CANCELLING)
    return state.is_terminal or on_its_way
