"""One attempt of a job: attach to it or launch it, watch it to its end, end it on request."""

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, TypeVar

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core.configs.clouds import is_local, kind_of
from flows.core.configs.prices import price_of
from flows.core.errors import (
    ClusterNotFound,
    ConfigNotFound,
    Conflict,
    InvalidConfig,
    LaunchCancelled,
    NothingSubmitted,
    OumiFlowsError,
    StillLaunching,
)
from flows.core.models import JobHandle, JobRequest
from flows.core.names import launch_log
from flows.core.redaction import own_redactor
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.job.hiding_log import HidingLogger, build_redactor
from flows.job.job_search import JobSearch
from flows.job.job_watch import JobWatch
from flows.job.launch_checks import find_blockers
from flows.job.launch_plan import LaunchPlan, PreparedLaunch
from flows.job.letting_go import CLUSTER_IS_GONE, Patience, with_cost
from flows.job.outcome import Outcome, cancelled_before_launch
from flows.job.price import keep_price
from flows.job.progress_artifact import ProgressArtifact
from flows.job.reading import Reading
from flows.job.reporting import Report
from flows.job.results import keep_results, mark_end, mark_results, with_divergence
from flows.job.run_record import RunRecord
from flows.job.run_stopwatches import RunStopwatches
from flows.job.runtime import CancelRequest, Runtime
from flows.job.shared_output import jobs_that_shared
from flows.job.spending import Spending
from flows.job.submissions import Submissions
from flows.job.training_watch import TrainingWatch, is_awaited

T = TypeVar("T")

_RECORD_SECONDS: Final = 30.0
"""How long the end of a job waits for the record of what it ran on."""


class Attempt:
    """What happens to one attempt of a job, from its request to its outcome.

    The same code path serves the first start, a restart of the worker and a retry: it looks for
    the job under its launch key before it launches it.

    Args:
        request: What to run.
        number: The number of the attempt, from 1.
        is_new: Whether this is the first execution of the run, so that no job of it can exist.
        record: The flow run.
        runtime: The launcher and the watcher.
        cancel: The cancel request of the run.
        logger: The run's log.
    """

    def __init__(
        self,
        request: JobRequest,
        *,
        number: int,
        is_new: bool,
        record: RunRecord,
        runtime: Runtime,
        cancel: CancelRequest,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
    ) -> None:
        self._request = request
        self._record = record
        self._stopwatches = RunStopwatches(record)
        self._launcher = runtime.launcher
        self._runtime = runtime
        self._settings = runtime.settings
        self._cancel = cancel
        self._logger = logger = HidingLogger(logger, own_redactor())
        self._report = Report(
            ProgressArtifact(record),
            logger,
            interval_seconds=self._settings.progress_interval_seconds,
            training=TrainingWatch(record, runtime, logger, is_close=is_awaited(request, record)),
        )
        self._spending = Spending(request, record, runtime, self._report)
        self._submissions = Submissions(record, request, is_new=is_new)
        self._plan = LaunchPlan(request, record, self._settings, logger)
        self._search = JobSearch(
            request,
            number=number,
            record=record,
            runtime=runtime,
            cancel=cancel,
            report=self._report,
            submissions=self._submissions,
            plan=self._plan,
        )
        self._reading = Reading()
        self._is_late = False
        self._recording: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """The number of the attempt; an earlier one if the job of that one is still alive."""
        return self._search.number

    async def attach_or_launch(self) -> JobHandle | Outcome:
        """Find the job that this attempt launched before, or launch it now."""

        async def attach_or_launch(patience: Patience) -> JobHandle | Outcome:
            try:
                found = await self._search.attach(patience)
            except StillLaunching as launching:
                return await self._take_up(launching)
            return found or await self._launch()

        self._stopwatches.start(self.number)
        await self._learn_secrets()
        if self.number > 1:  # the reports of an earlier attempt are not this one's
            await self._record.label(RunLabels(attempt=self.number))
        try:
            launched = await self._search.repeat_until_reachable(attach_or_launch)
        except InvalidConfig as error:
            launched = Outcome(TerminationReason.INVALID_CONFIG, error.sentences)
        except LaunchCancelled as error:
            wanted = self._cancel.is_wanted
            reason = TerminationReason.USER_CANCELLED if wanted else None
            launched = Outcome(reason or TerminationReason.CANCELLED_EXTERNALLY, error.sentences)
        except OumiFlowsError as error:
            launched = Outcome(TerminationReason.LAUNCH_FAILED, error.sentences)
        if isinstance(launched, JobHandle):
            self._spending.attach(self.number)
            return launched
        self._spending.end(is_billed_idle=False)
        await self._keep_duration()
        return self._hide_secrets(launched)

    async def watch(self, handle: JobHandle) -> Outcome:
        """Follow the job to its end; on a cancel request, end it and wait until it is gone."""
        watch = JobWatch(
            handle,
            attempt=self.number,
            record=self._record,
            runtime=self._runtime,
            cancel=self._cancel,
            report=self._report,
            spending=self._spending,
            timeout_seconds=self._request.timeout_seconds,
            stop_on=self._request.stop_on,
            is_ours=self._search.adopted_job is None,
        )
        pricing = asyncio.create_task(keep_price(handle, self._record, self._launcher))
        try:
            outcome = await watch.outcome()
        finally:
            pricing.cancel()
        if watch.has_ended:
            self._submissions.end(self.number)
        if self._is_late and not self._record.is_cancelling:
            text = f"{self._late}. It came up later and was cancelled: {outcome.text}"
            outcome = Outcome(TerminationReason.LAUNCH_FAILED, text)
        if outcome.reason is TerminationReason.COMPLETED:
            loss = await keep_results(
                self._record,
                self._logger,
                own_output=self._request.own_output,
                loss=self._report.loss,
            )
            outcome = with_divergence(outcome, loss=loss)
        else:
            look, labels = "the end of the results of a job", self._record.labels
            marks = await self._reading.read(look, mark_end, labels, self.number)
            self._record.note(marks or RunLabels())
        await self._keep_record()
        if outcome.reason is TerminationReason.OVER_BUDGET:
            outcome = await self._spending.end_cluster(outcome, handle)
        else:
            outcome = with_cost(outcome, handle, is_own=not self._request.cluster_name)
        self._spending.end(is_billed_idle=outcome.reason not in CLUSTER_IS_GONE)
        await self._keep_duration()
        return self._hide_secrets(outcome)

    async def end(self) -> Outcome:
        """End the job of this attempt if it has one, and wait until it is gone."""
        await self._learn_secrets()
        self._cancel.ask(force=self._record.labels.force_cancel, concluded=False)
        try:
            found = await self._search.repeat_until_reachable(self._search.attach)
        except (ConfigNotFound, InvalidConfig, Conflict, ClusterNotFound):
            found = None  # there was not even a place to launch it
        if found is None:
            return cancelled_before_launch()
        return self._hide_secrets(found) if isinstance(found, Outcome) else await self.watch(found)

    async def _learn_secrets(self) -> None:
        """Hide the job's own secrets from now on, besides those of this process."""
        redactor = await asyncio.to_thread(
            lambda: build_redactor(self._plan.secrets(), self._settings.home, self._logger)
        )
        self._report.redactor = self._logger.redactor = redactor

    def _hide_secrets(self, outcome: Outcome) -> Outcome:
        return Outcome(outcome.reason, self._report.redactor.text(outcome.text))

    async def _launch(self) -> JobHandle | Outcome:
        """Launch the job, unless it was cancelled first."""
        refusal = await self._refusal()
        if refusal is not None:
            return refusal
        try:
            prepared = await self._prepare()
        except OumiFlowsError as error:
            return Outcome(TerminationReason.INVALID_CONFIG, error.sentences)
        except OSError as error:
            return Outcome(TerminationReason.LAUNCH_FAILED, f"The job was not prepared: {error}")
        if too_much := await self._spending.reserve(self.number, prepared.job_config):
            return too_much
        await self._record.show(JobState.LAUNCHING)
        # A cancel can interrupt this look; it cannot interrupt a launch.
        await self._unless_cancelled(
            self._launcher.reach(self._request.cloud, await self._search.cluster())
        )
        return await self._launch_prepared(prepared)

    async def _take_up(self, launching: StillLaunching) -> JobHandle | Outcome:
        """Wait for a launch that is under way, within the time limit that its worker kept."""
        if self._cancel.is_wanted:
            raise launching
        try:
            prepared = await self._prepare()
        except (OumiFlowsError, OSError):
            raise launching from None
        return await self._launch_prepared(prepared, under_way=launching)

    async def _launch_prepared(
        self, prepared: PreparedLaunch, *, under_way: StillLaunching | None = None
    ) -> JobHandle | Outcome:
        cluster = await self._search.cluster()
        await self._record.show(JobState.LAUNCHING)
        await self._keep_labels(await self._labels_of_launch(prepared, cluster))
        if self._cancel.is_wanted or self._record.is_cancelling:
            if under_way is not None:
                raise under_way  # its job is cancelled once it exists
            await self._submissions.take_back()
            return cancelled_before_launch()
        if self.number > 1:
            await self._report.start_over()
        self._recording = asyncio.create_task(self._record_provenance())
        launching = asyncio.ensure_future(
            self._launcher.launch(
                prepared.job_config,
                cloud=self._request.cloud,
                cluster_name=cluster,
                key=self._search.key(self.number),
                autostop_minutes=self._request.autostop_minutes,
            )
        )
        try:
            return await self._await_launch(launching, cluster)
        except NothingSubmitted:
            await self._submissions.take_back()
            raise
        except BaseException:
            launching.cancel()
            raise

    async def _keep_labels(self, changes: RunLabels) -> None:
        """Write the labels of a launch before it; those of nothing but times can wait."""
        if changes.model_fields_set:
            await self._record.label(changes)

    async def _labels_of_launch(self, prepared: PreparedLaunch, cluster: str) -> RunLabels:
        """The labels to write before the job is launched."""
        labels = self._record.labels.with_changes(prepared.labels)
        marks = await self._reading.read(
            "the contents of a folder of results",
            mark_results,
            labels,
            self.number,
            is_script=prepared.is_script,
        )
        changes = prepared.labels.with_changes(marks or RunLabels())
        if not is_local(self._request.cloud):
            changes = changes.with_changes(RunLabels(cluster_name=cluster))
        if kind_of(self._request.cloud).is_sky:
            path = launch_log(self._settings.home, cluster, self._search.key(self.number))
            price = await asyncio.to_thread(price_of, prepared.job_config)
            changes = changes.with_changes(RunLabels(launch_log=str(path), hourly_price=price))
        if labels.force_cancel and not self._record.is_cancelling:
            # It was requested for an earlier attempt.
            changes = changes.with_changes(RunLabels(force_cancel=False))
        return changes.with_changes(self._submissions.begin(self.number))

    async def _prepare(self) -> PreparedLaunch:
        """Prepare the launch; a later attempt gets the checkpoint to resume from."""
        record, sharing = self._record, None
        if self.number > 1:
            sharing = await jobs_that_shared(record.run, record.client)
        return await asyncio.to_thread(self._plan.prepare, self.number, sharing=sharing)

    async def _refusal(self) -> Outcome | None:
        """Say why nothing may be launched; None: it may."""
        if self._search.adopted_job is not None and not self._cancel.is_wanted:
            return Outcome(
                TerminationReason.INVALID_CONFIG,
                "The job was adopted, so there is no config to launch it from.",
            )
        checks, blocked = self._runtime.checks, None
        if checks is not None and not self._request.skip_preflight and self.number == 1:
            blocked = await self._unless_cancelled(find_blockers(checks, self._plan, self._logger))
        if self._cancel.is_wanted:
            return cancelled_before_launch()
        return Outcome(TerminationReason.INVALID_CONFIG, blocked) if blocked else None

    async def _unless_cancelled(self, call: Awaitable[T]) -> T | None:
        """Return the result of `call`; interrupt it as soon as the run is cancelled."""
        calling = asyncio.ensure_future(call)
        wanted = asyncio.ensure_future(self._cancel.wait_until_wanted())
        try:
            await asyncio.wait({calling, wanted}, return_when=asyncio.FIRST_COMPLETED)
            return calling.result() if calling.done() else None
        finally:
            calling.cancel()
            wanted.cancel()

    async def _record_provenance(self) -> None:
        """Record what the attempt runs on, while its job is launched and watched."""
        try:
            self._record.note(await asyncio.to_thread(self._plan.keep_provenance))
        except Exception:  # the edge of a record: its defects must not fail the job
            self._logger.exception("The record of what the job runs on was not kept")

    async def _keep_record(self) -> None:
        """Wait a while for the record of what the job ran on, to name it on the run."""
        if self._recording is not None:
            is_wanted = not self._cancel.is_wanted
            await asyncio.wait([self._recording], timeout=_RECORD_SECONDS if is_wanted else 0)

    async def _keep_duration(self) -> None:
        """Keep how long the attempt took, and the other labels noted for the run."""
        self._stopwatches.stop()
        try:
            await self._record.label(RunLabels())
        except (httpx.HTTPError, ObjectNotFound) as error:
            self._logger.debug("Prefect did not answer: %r", error)

    async def _await_launch(
        self, launching: asyncio.Future[JobHandle], cluster: str
    ) -> JobHandle | Outcome:
        """Wait for the handle of the job; cancel a job whose launch took too long."""
        patience = await self._search.patience()
        limit = self._settings.launch_timeout_seconds
        await patience.await_launch(launching, seconds=limit)
        if not launching.done() and not self._cancel.is_forced:
            # A launch cannot be interrupted. If it counted as failed now, its job would run later
            # and nothing would watch it.
            self._is_late = True
            self._report.say("%s. It is cancelled as soon as it comes up.", self._late)
            await patience.await_launch(
                launching, seconds=self._settings.unreachable_timeout_seconds
            )
        if not launching.done():
            self._runtime.end_later(launching)
            if self._cancel.is_forced:
                return patience.leave_behind("its launch had not ended")
            where = f"{self._request.cloud}/{cluster}"
            return Outcome(
                TerminationReason.LAUNCH_FAILED,
                f"{self._late}, or later. Check whether anything is left on {where}.",
            )
        handle = launching.result()
        self._logger.info("Launched %s on %s", handle.launcher_job_id, handle.cluster_name)
        if self._is_late:
            self._cancel.ask(force=False, concluded=False)
        if not is_local(self._request.cloud):
            # The watch writes the label again. A job must be ended even if its run was deleted.
            with suppress(httpx.HTTPError, ObjectNotFound):
                await self._record.label_handle(handle, attempt=self.number, log_path=None)
        return handle

    @property
    def _late(self) -> str:
        limit = self._settings.launch_timeout_seconds
        return f"{self._request.cloud} did not launch the job within {limit:g} s"
