"""Following one job to its end."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Final

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core import names
from flows.core.errors import ClusterUnreachable, OumiFlowsError
from flows.core.models import JobHandle, StopOn
from flows.core.run_labels import RunLabels
from flows.core.states import Health, JobState, TerminationReason
from flows.core.training.recorder import record_folder
from flows.job.cluster_watch import ClusterWatch, Watched
from flows.job.letting_go import Patience
from flows.job.log_copy import LogCopy
from flows.job.outcome import Outcome, outcome_of
from flows.job.pausing import Pausing
from flows.job.reading import Reading
from flows.job.reporting import Report
from flows.job.run_record import RunRecord
from flows.job.run_stopwatches import RunStopwatches
from flows.job.runtime import CancelRequest, CancelState, Runtime
from flows.job.spending import Spending
from flows.job.usage_copy import UsageCopy
from flows.launcher.port import LauncherState, Observation

_WHY_CHARS: Final = 500
"""Longest text about a training that is kept as a label."""


class JobWatch:
    """Follows one job: passes a cancel on, reports what the job says, decides how it ended.

    Args:
        handle: The job.
        attempt: The number of the attempt it is.
        record: Its flow run.
        runtime: The launcher and the watcher.
        cancel: The cancel request of the run.
        report: Passes on the log and the progress.
        spending: Its account.
        timeout_seconds: How long it may run; None: without a limit.
        stop_on: The health of its training at which it is stopped.
        is_ours: Whether oumi-flows launched it, so that its name on the launcher is our key.
    """

    def __init__(
        self,
        handle: JobHandle,
        *,
        attempt: int,
        record: RunRecord,
        runtime: Runtime,
        cancel: CancelRequest,
        report: Report,
        spending: Spending,
        timeout_seconds: float | None,
        stop_on: Sequence[StopOn] = (),
        is_ours: bool,
    ) -> None:
        self._is_ours = is_ours
        self._handle = handle
        self._attempt = attempt
        self._record = record
        self._stopwatches = RunStopwatches(record)
        self._runtime = runtime
        self._launcher = runtime.launcher
        self._watcher = runtime.watcher
        self._settings = runtime.settings
        self._intervals = runtime.intervals
        self._cancel = cancel
        self._report = report
        self._spending = spending
        self._timeout_seconds = timeout_seconds
        self._stops_when_bad = StopOn.BAD in stop_on
        self._logger = logging.getLogger("prefect.oumi.watch")
        self._key = names.launch_key(record.run.id, attempt)
        self._log = LogCopy(
            runtime.launcher,
            handle,
            self._settings.jobs_dir / self._key / "log.txt",
            interval_seconds=self._settings.progress_interval_seconds,
            intervals=runtime.intervals,
        )
        self._usage = UsageCopy(
            runtime.launcher, handle, record_folder(self._log.path), intervals=runtime.intervals
        )
        self._reading = Reading()
        self._pausing = Pausing(
            handle, attempt=attempt, record=record, runtime=runtime, report=report
        )
        self._is_frozen = False
        self._seen: Observation | None = None
        # An earlier watch may have stopped before it could cancel the job.
        self._cancel_due = self._is_timed_out() or self._is_stopped() or self._is_over_budget()
        self._passed_on = CancelState()
        self._cancel_again_at = float("inf")
        self._missing_since: float | None = None
        self._patience = Patience(
            cancel,
            runtime.settings,
            cloud=handle.cloud,
            cluster=handle.cluster_name,
            job=f"Job {handle.launcher_job_id}",
        )
        self._why_not_cancelled = ""
        self._looks_when_forced: int | None = None

    async def outcome(self) -> Outcome:
        """Follow the job to its end; on a cancel request, cancel it and wait until it is gone."""
        try:
            async with self._watcher.watch(self._handle) as (watched, cluster):
                while True:
                    watched.changed.clear()
                    await self._pass_on_cancel(cluster)
                    outcome = await self._look(watched) or self._let_go(watched)
                    if outcome is not None:
                        return await self._finish(outcome)
                    await _first(
                        watched.changed.wait(),
                        self._cancel.wait_for_change(self._passed_on),
                        self._pausing.wait_for_change(),
                        seconds=min(
                            self._settings.progress_interval_seconds,
                            self._spending.seconds_until_due(),
                        ),
                    )
        finally:
            self._log.stop()
            self._usage.stop()

    @property
    def has_ended(self) -> bool:
        """Whether the job was seen to have ended."""
        return self._seen is not None and self._seen.state.is_terminal

    def _let_go(self, watched: Watched) -> Outcome | None:
        """Stop waiting for a job that a forced cancel cannot reach; None: keep waiting."""
        if not self._cancel.is_forced:
            return None
        if self._looks_when_forced is None:
            self._looks_when_forced = watched.looks
        has_answered = watched.looks > self._looks_when_forced
        if has_answered and watched.unreachable is None:
            # A cluster that accepted the cancel is watched until the job is gone.
            is_over = self._cancel_due and self._patience.is_over(answers=True)
            return self._patience.leave_behind(self._why_not_cancelled) if is_over else None
        if has_answered and not self._patience.is_worn_out():
            return None
        why = watched.unreachable or "its cluster did not answer"
        return self._patience.leave_behind(why) if self._patience.is_over(answers=False) else None

    async def _finish(self, outcome: Outcome) -> Outcome:
        if self._seen is not None and self._log.is_started:
            if not await self._reading.wait_for("the end of a log", self._log.finish()):
                self._report.say("The end of the log could not be copied to %s", self._log.path)
            await self._reading.wait_for("what a job used", self._usage.finish())
            self._seen = self._with_log(self._seen)
            await self._show(self._seen)
        output_dir = self._record.labels.output_dir or ""
        return await self._report.finish(outcome, self._seen, output_dir=output_dir)

    async def _pass_on_cancel(self, cluster: ClusterWatch) -> None:
        if self._cancel.state != self._passed_on:
            self._passed_on = self._cancel.state
            self._cancel_due = True
        now = asyncio.get_running_loop().time()
        if not self._cancel_due and now < self._cancel_again_at:
            return
        if await self._is_another():
            return
        self._cancel_again_at = now + self._intervals.cancel_again
        try:
            order = self._launcher.cancel(self._handle, force=self._cancel.is_forced)
            await self._patience.ask(order)
        except OumiFlowsError as error:
            self._why_not_cancelled = error.what
            self._report.say("Cannot cancel yet, trying again: %s", error.what)
        else:
            self._cancel_due = False
        cluster.hurry()

    async def _is_another(self) -> bool:
        """Whether the launcher's id now means another job; False if that is unknown."""
        if not self._is_ours or self._handle.launcher_job_id == self._key:
            return False
        try:
            seen = await self._patience.ask(self._launcher.observe_job(self._handle))
        except OumiFlowsError:
            return False
        return seen is not None and seen.is_another_than(self._key)

    async def _look(self, watched: Watched) -> Outcome | None:
        """Process the latest look; return the outcome once the job has ended."""
        if watched.unreachable is not None:
            return await self._unreachable(watched.unreachable, watched.latest)
        if watched.looks == 0:
            return None
        try:
            # A list may lack a job that the cluster still knows by its id.
            seen = watched.latest or await self._patience.ask(
                self._launcher.observe_job(self._handle)
            )
        except ClusterUnreachable as error:
            return await self._unreachable(error.what, None)
        self._patience.note_answer()
        if seen is None or (self._is_ours and seen.is_another_than(self._key)):
            return self._missing()
        self._missing_since = None
        seen = self._seen = self._with_log(seen)
        if not seen.state.is_terminal and not self._cancel.is_wanted:
            self._is_frozen = await self._pausing.follow(seen)
        await self._show(seen)
        if seen.state.is_terminal:
            return self._outcome_of_end(seen)
        await self._report.update(seen)
        if self._stops_when_bad and self._report.health is Health.BAD:
            await self._stop()
        return None

    def _with_log(self, seen: Observation) -> Observation:
        """The observation, with our copy of the log where the log itself is elsewhere."""
        if seen.log_path is not None or seen.state is LauncherState.PENDING:
            return seen
        self._log.start()
        self._usage.start()
        copied = self._log.path.exists()
        return seen.model_copy(update={"log_path": str(self._log.path)}) if copied else seen

    def _outcome_of_end(self, seen: Observation) -> Outcome:
        cancelled = self._cancel.is_wanted
        timed_out = self._is_timed_out()
        if timed_out and not cancelled and seen.state is LauncherState.CANCELLED:
            return Outcome(
                TerminationReason.TIMED_OUT,
                f"Ended, because it ran longer than its limit of {self._timeout_seconds:g} s.",
            )
        if self._is_stopped() and not cancelled and seen.state is LauncherState.CANCELLED:
            why = self._record.labels.stopped_for or "its training's health was bad"
            return Outcome(TerminationReason.DIVERGED, f"Stopped, as stop_on asks: {why}")
        if self._is_over_budget() and not cancelled and seen.state is LauncherState.CANCELLED:
            return self._spending.over_outcome()
        outcome = outcome_of(seen, cancelled=cancelled)
        is_alien = outcome.reason is TerminationReason.CANCELLED_EXTERNALLY
        if is_alien and self._runtime.has_ended_cluster(
            self._handle.cloud, self._handle.cluster_name
        ):
            return Outcome(
                TerminationReason.USER_CANCELLED,
                "oumi-flows stopped or destroyed its cluster.",
            )
        return outcome

    async def _show(self, seen: Observation) -> None:
        """Write the handle and the state on the run; without Prefect, the next look does.

        The handle of a local job that has ended is written with what its end adds.
        """
        self._note_spending(seen)
        try:
            await self._record.label_handle(
                self._handle,
                attempt=self._attempt,
                log_path=seen.log_path,
                held_by=seen.held_by,
                is_last=seen.state.is_terminal,
            )
            if self._cancel.is_wanted or self._is_frozen:
                return
            if seen.state is LauncherState.RUNNING:
                await self._record.show(JobState.RUNNING)
                await self._limit()
                if not self._is_timed_out() and await self._spending.must_end(self._attempt):
                    self._cancel_due = True
            elif seen.state is LauncherState.PENDING:
                # A job may be pending again: Slurm puts preempted jobs back into its queue.
                await self._record.show(JobState.LAUNCHING)
                await self._stopwatches.forget_running()
                # A cluster is billed while the job waits on it.
                if await self._spending.must_end(self._attempt):
                    self._cancel_due = True
        except (httpx.HTTPError, ObjectNotFound) as error:
            self._logger.debug("Prefect did not answer: %r", error)

    def _note_spending(self, seen: Observation) -> None:
        if seen.state is LauncherState.PENDING or self._is_frozen:
            self._spending.note_pending()
        elif seen.state is LauncherState.RUNNING:
            self._spending.note_running()

    def _is_timed_out(self) -> bool:
        """Whether we ended this attempt because it ran too long."""
        return self._record.labels.timed_out_attempt == self._attempt

    def _is_stopped(self) -> bool:
        """Whether we ended this attempt because of its health."""
        return self._record.labels.stopped_attempt == self._attempt

    def _is_over_budget(self) -> bool:
        """Whether we ended this attempt because it reached its limit of spending."""
        return self._spending.over_attempt == self._attempt

    async def _stop(self) -> None:
        """Request the end of a job whose training does badly."""
        if self._is_stopped() or self._cancel.is_wanted:
            return
        why = self._report.what_is_wrong[:_WHY_CHARS]
        # Write the reason first: whatever finds the job ended must know that we ended it.
        try:
            await self._record.label(RunLabels(stopped_attempt=self._attempt, stopped_for=why))
        except (httpx.HTTPError, ObjectNotFound) as error:
            self._logger.debug("Prefect did not answer: %r", error)
            return
        self._report.say("It is stopped, as stop_on asks: %s", why)
        self._cancel_due = True

    async def _limit(self) -> None:
        """Request the end of a job that has run for too long."""
        if self._timeout_seconds is None or self._is_timed_out():
            return
        if await self._stopwatches.running_seconds(attempt=self._attempt) < self._timeout_seconds:
            return
        # Write the reason first: whatever finds the job ended must know that we ended it.
        await self._record.label(RunLabels(timed_out_attempt=self._attempt))
        self._report.say(
            "It has run for %g s, its limit. It is cancelled now.", self._timeout_seconds
        )
        self._cancel_due = True

    async def _unreachable(self, why: str, observed: Observation | None) -> Outcome | None:
        await self._report.show_unreachable(why, observed=observed)
        return self._patience.outcome_if_lost(why)

    def _missing(self) -> Outcome | None:
        now = asyncio.get_running_loop().time()
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since < self._intervals.vanished:
            return None
        where = f"{self._handle.cloud}/{self._handle.cluster_name}"
        if self._cancel.is_wanted:
            return Outcome(TerminationReason.USER_CANCELLED, f"{where} no longer has the job.")
        return Outcome(TerminationReason.LOST, f"{where} no longer knows the job.")


async def _first(*calls: Awaitable[object], seconds: float) -> None:
    """Wait until one of the calls returns, for `seconds` at most."""
    waits = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
