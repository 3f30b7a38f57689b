"""The jobs of a pipeline or a sweep: ordinary runs of `oumi-job`, linked to it."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from prefect import Task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, TaskRunResult
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Pending, Scheduled

from flows.core import names
from flows.core.budget.amounts import Rate
from flows.core.budget.rates import rate_of
from flows.core.configs.clouds import is_local
from flows.core.configs.plan import JobPlan, make_plan
from flows.core.configs.reader import ConfigKind, submitted_config
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import EngineUnavailable
from flows.core.models import JobRequest
from flows.core.prefect_states import PREFECT_STATE
from flows.core.run_labels import RunLabels
from flows.core.settings import Settings
from flows.core.states import JobState
from flows.job.prefect_calls import patiently, read_all_runs, state_of
from flows.job.run_record import RunRecord
from flows.job.runtime import CancelRequest

_GROWTH: Final = 1.5
_LONGEST_POLL_SECONDS: Final = 5.0
_CREATION_SECONDS: Final = 30.0
_NAME_CHARS: Final = 200


class Children:
    """The jobs of one parent run.

    Args:
        parent: The pipeline's or the sweep's run.
        client: Prefect's API.
        settings: The folder of submitted configs, and how often to look.
    """

    def __init__(self, parent: FlowRun, client: PrefectClient, settings: Settings) -> None:
        self._parent = parent
        self._client = client
        self._settings = settings
        self._deployment_id: UUID | None = None

    async def all(self) -> dict[str, FlowRun]:
        """Read all jobs, by the name of their part, in one query for each 200."""
        ours = FlowRunFilterParentFlowRunId(any_=[self._parent.id])
        wanted = FlowRunFilter(parent_flow_run_id=ours)
        found = await patiently(lambda: read_all_runs(self._client, flow_run_filter=wanted))
        return {RunLabels.read(run.labels).part or "": run for run in found}

    async def start(
        self,
        part: str,
        request: JobRequest,
        *,
        after: Iterable[FlowRun],
        tags: Sequence[str] = (),
        output_dir: str = "",
    ) -> FlowRun:
        """Start the job of a part, or find it if it was started before.

        Args:
            part: The name of the part.
            request: The job.
            after: The jobs that it waited for; the Prefect UI draws them before it.
            tags: Further tags of its run.
            output_dir: The folder of results, for a job config.

        Raises:
            OumiFlowsError: The job cannot be run.
        """
        plan = await asyncio.to_thread(self._plan, request)
        if output_dir:
            plan = plan.model_copy(update={"output_dir": output_dir})
        creating = asyncio.ensure_future(
            patiently(lambda: self._create(part, request, plan, after=list(after), tags=tags))
        )
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            # A cancel of the parent must find this job, too.
            await asyncio.wait({creating}, timeout=_CREATION_SECONDS)
            raise

    async def retry(self, run: FlowRun, *, fresh: bool) -> None:
        """Start another attempt of a job that has ended."""
        number = await patiently(RunRecord(run, self._client).next_attempt)
        changes = RunLabels(attempt=number)
        if fresh:
            changes = changes.with_changes(RunLabels(fresh_attempt=number))
        if RunLabels.read(run.labels).force_cancel:
            changes = changes.with_changes(RunLabels(force_cancel=False))
        state = Scheduled(
            name=PREFECT_STATE[JobState.RETRYING].name, message=f"Attempt {number} was requested."
        )
        await self.label(run, changes)
        await patiently(lambda: self._client.set_flow_run_state(run.id, state))

    async def cancel(self, run: FlowRun, *, force: bool, message: str) -> None:
        """Request the cancel of a job."""
        if force and not RunLabels.read(run.labels).force_cancel:
            await self.label(run, RunLabels(force_cancel=True))
        if state_of(run) is not JobState.CANCELLING:
            state = Cancelling(message=message)
            await patiently(lambda: self._client.set_flow_run_state(run.id, state))

    async def label(self, run: FlowRun, changes: RunLabels) -> None:
        """Change the labels of a job's run."""
        await patiently(lambda: self._client.update_flow_run_labels(run.id, changes.as_labels()))

    async def end(self, cancel: CancelRequest) -> list[FlowRun]:
        """End every live job, wait until all are gone, and return all jobs as they ended."""
        interval = Interval(self._settings.poll_min_seconds)
        while True:
            requested = cancel.state
            runs = list((await self.all()).values())
            live = [run for run in runs if not state_of(run).is_terminal]
            if not live:
                return runs
            for run in live:
                await self.cancel(
                    run, force=cancel.is_forced, message="Its pipeline or sweep was cancelled."
                )
            # A forced cancel may follow an ordinary one.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(cancel.wait_for_change(requested), interval.next())

    async def rate(self, request: JobRequest) -> Rate:
        """What an hour of a job counts."""

        def read() -> Rate:
            config = parse_yaml(self._plan(request).job_config, "the job config")
            return rate_of(request, cast("dict[str, Any]", config))

        return await asyncio.to_thread(read)

    def _plan(self, request: JobRequest) -> JobPlan:
        config = submitted_config(
            Path(request.config_path), request.config_sha256, self._settings.snapshots_dir
        )
        return make_plan(request, config)

    async def _create(
        self,
        part: str,
        request: JobRequest,
        plan: JobPlan,
        *,
        after: list[FlowRun],
        tags: Sequence[str],
    ) -> FlowRun:
        # The task run stands for the job in the parent's graph; the server keeps its state.
        stand_in = Task(lambda: None, name=part)
        stand_in.task_key = f"{names.FLOW_NAME}.part"
        task_run = await self._client.create_task_run(
            stand_in,
            self._parent.id,
            dynamic_key=part,
            name=part,
            state=Pending(),
            task_inputs={
                str(RunLabels.read(run.labels).part): [TaskRunResult(id=run.parent_task_run_id)]
                for run in after
                if run.parent_task_run_id
            },
        )
        command = names.JOB_COMMAND if plan.kind is ConfigKind.JOB else request.command.value
        labels = RunLabels(
            attempt=1,
            work_pool=self._parent.work_pool_name or self._settings.work_pool,
            part_of=str(self._parent.id),
            part=part,
            model_name=plan.model_name[-_NAME_CHARS:] or None,
            output_dir=plan.output_dir or None,
        )
        return await self._client.create_flow_run_from_deployment(
            await self._deployment(),
            parameters={"request": request.model_dump(mode="json")},
            name=request.job_name or part,
            tags=[*names.run_tags(command=command, cloud=plan.cloud), *tags],
            labels=labels.as_labels(),
            idempotency_key=f"{self._parent.id}/{part}",
            parent_task_run_id=task_run.id,
            work_queue_name=None if is_local(plan.cloud) else names.CLOUD_QUEUE,
        )

    async def _deployment(self) -> UUID:
        if self._deployment_id is None:
            name = names.deployment(self._parent.work_pool_name or self._settings.work_pool)
            try:
                deployment = await self._client.read_deployment_by_name(name)
            except ObjectNotFound as error:
                raise EngineUnavailable(
                    f"The Prefect server has no deployment {name}", "Run `oumi-flows up`"
                ) from error
            self._deployment_id = deployment.id
        return self._deployment_id


class Interval:
    """Seconds between two looks, which grow while nothing changes."""

    def __init__(self, shortest: float) -> None:
        self._shortest = shortest
        self._seconds = shortest

    def next(self) -> float:
        """The seconds until the next look."""
        seconds = self._seconds
        self._seconds = min(seconds * _GROWTH, max(_LONGEST_POLL_SECONDS, self._shortest))
        return seconds

    def reset(self) -> None:
        """Start over with the shortest interval, after a change."""
        self._seconds = self._shortest
