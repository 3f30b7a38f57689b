"""The shared part of pipelines and sweeps: a run that watches its jobs and shows them."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State

from flows.core import names
from flows.core.models import JobProgress
from flows.core.result_metrics import kept_metrics, read_kept, read_metrics
from flows.core.run_labels import RunLabels
from flows.core.settings import Settings
from flows.core.states import JobState
from flows.families.cancelling import end_and_conclude
from flows.families.children import Children, Interval
from flows.job.outcome import Outcome, too_late_to_cancel
from flows.job.prefect_calls import patiently, retried_at, state_of
from flows.job.progress_artifact import ProgressArtifact
from flows.job.reading import Reading
from flows.job.results import result_files
from flows.job.run_artifact import RunArtifact
from flows.job.run_record import RunRecord
from flows.job.run_stopwatches import RunStopwatches
from flows.job.runtime import Runtime, current_runtime
from flows.job.summary_artifact import summarize_parts

Row = dict[str, Any]


@asynccontextmanager
async def current_parent() -> "AsyncGenerator[Parent]":
    """The pipeline or sweep of the flow that runs this code.

    Outside an `oumi` worker, which observes cancels, the end of the context ends its jobs.
    """
    record, runtime = RunRecord.current(), current_runtime()
    try:
        await patiently(record.reload)
        await patiently(partial(_measure, record))
        yield Parent(record, record.client, runtime.settings, get_run_logger())
    except asyncio.CancelledError:
        # A process worker cancels by SIGTERM, which arrives here as a cancellation.
        if not runtime.observes_cancels:
            await asyncio.shield(_end_if_cancelling(record, runtime))
        raise


class Parent:
    """One run of a pipeline or a sweep.

    Args:
        record: The run.
        client: Prefect's API.
        settings: The settings.
        logger: The run's log.
    """

    def __init__(
        self,
        record: RunRecord,
        client: PrefectClient,
        settings: Settings,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
    ) -> None:
        self.children = Children(record.run, client, settings)
        self.reading = Reading()
        self.logger = logger
        self._record = record
        self._client = client
        self._interval = Interval(settings.poll_min_seconds)
        self._table = RunArtifact(record, kind=names.PARTS_ARTIFACT, prefix="parts")
        self._summary = RunArtifact(record, kind="markdown", prefix="summary")
        self._progress = ProgressArtifact(record)
        self._shown: list[Row] | None = None
        self._metrics: dict[UUID, Mapping[str, float]] = {}
        self.one_part_since: datetime | None = None
        """When a part was retried alone: only what follows it starts. None: every part starts."""

    @property
    def run_id(self) -> UUID:
        """The id of the run."""
        return self._record.run.id

    async def retry_failed(self, runs: Mapping[str, FlowRun]) -> None:
        """Retry the jobs that failed in an earlier attempt of this run.

        A second call in the same attempt retries nothing: a job that was retried ends after the
        attempt was requested.
        """
        if self._record.run.run_count <= 1:
            return
        history = await patiently(lambda: self._client.read_flow_run_states(self._record.run.id))
        asked_at = retried_at(history)
        if asked_at is None:
            return
        attempt = await patiently(self._record.attempt)
        labels = self._record.labels
        if labels.one_part_attempt == attempt:
            self.one_part_since = asked_at
            return
        failed = [run for run in runs.values() if _failed_before(run, asked_at)]
        for run in failed:
            fresh = labels.fresh_attempt == attempt
            await self.children.retry(run, fresh=fresh)
            part = RunLabels.read(run.labels).part
            self.logger.info("Retrying %s: job %s", part, run.id)

    def moves(self, run: FlowRun) -> bool:
        """Whether a job is live or has ended in this attempt of the run."""
        since = self.one_part_since
        return not state_of(run).is_terminal or since is None or not _ended_before(run, since)

    async def metrics(self, run: FlowRun, *, output_dir: str) -> Mapping[str, float]:
        """The metrics of a job that succeeded; from its run if they are kept there."""
        if run.id not in self._metrics:
            labels = RunLabels.read(run.labels)
            found = read_kept(labels.metrics)
            if found is None:
                files = result_files(labels, folder=output_dir)
                found = await self.reading.read(f"the results of job {run.id}", read_metrics, files)
                if found:
                    await self.children.label(run, RunLabels(metrics=kept_metrics(found)))
            self._metrics[run.id] = found or {}
        return self._metrics[run.id]

    async def show(self, rows: list[Row], *, over: int, total: int, about: str) -> None:
        """Show the state of every part, if it changed.

        Args:
            rows: A row for each part.
            over: How many parts have ended.
            total: How many parts there will be.
            about: The description of the table.
        """
        if rows == self._shown:
            return
        self._shown = rows
        self._interval.reset()
        progress = JobProgress(step=over, max_steps=total, percent=round(100 * over / total, 1))
        try:
            await self._table.write(json.dumps(rows), description=about)
            await self._progress.show(progress, observed_at=datetime.now(UTC), unreachable=None)
            await self._summarize(None)
        except httpx.HTTPError as error:
            self._shown = None
            self.logger.debug("Parts not shown: %s", error)

    async def _summarize(self, outcome: Outcome | None) -> None:
        page = summarize_parts(self._record, self._shown or [], outcome)
        await self._summary.write(page, description="Summary of its jobs")

    async def rest(self) -> None:
        """Wait until it is time for another look."""
        await asyncio.sleep(self._interval.next())

    async def conclude(self, outcome: Outcome) -> "State[Any]":
        """Finish the run and return the state that its flow returns.

        Raises:
            Abort: The run is in a terminal state already.
        """
        await self._record.refuse_if_concluded()
        RunStopwatches(self._record).stop()
        await patiently(lambda: self._record.label(RunLabels()))
        if self._record.is_cancelling:
            outcome = too_late_to_cancel(outcome)
        try:
            await self._summarize(outcome)
        except httpx.HTTPError as error:
            self.logger.debug("Summary not written: %s", error)
        return outcome.state


def _failed_before(run: FlowRun, instant: datetime) -> bool:
    if state_of(run) is JobState.SUCCEEDED or RunLabels.read(run.labels).stopped_early:
        return False
    return _ended_before(run, instant)


def _ended_before(run: FlowRun, instant: datetime) -> bool:
    return state_of(run).is_terminal and run.state is not None and run.state.timestamp < instant


async def _end_if_cancelling(record: RunRecord, runtime: Runtime) -> None:
    await patiently(record.reload)
    if record.is_cancelling:
        await end_and_conclude(record.run, client=record.client, runtime=runtime)


async def _measure(record: RunRecord) -> None:
    """Start the stopwatch of this attempt."""
    RunStopwatches(record).start(await record.attempt())
    await record.label(RunLabels())
