"""One attempt of a job: prepare, attach or launch, watch to the end, cancel on request."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from flows import names
from flows.configs.checkpoints import last_whole_checkpoint
from flows.configs.plan import JobPlan, make_plan
from flows.configs.reader import ConfigFile, load_snapshot, read_config
from flows.errors import ClusterUnreachable, ConfigNotFound, InvalidConfig, OumiFlowsError
from flows.launcher.job_environment import with_job_environment
from flows.models import Command, JobRequest
from flows.ports import JobHandle, LauncherState, Observation
from flows.report import Report
from flows.run_record import Outcome, RunRecord
from flows.runtime import CancelRequest, Runtime
from flows.states import JobState, TerminationReason
from flows.watch import ClusterWatch, Watched

_VANISHED_AFTER_SECONDS = 5.0
"""How long a cluster must know nothing of a job before the job counts as lost."""


class Attempt:
    """What happens to one attempt of a job, from its request to its outcome.

    The same code path serves the first start, a restart of the worker and a retry: it looks for
    the job under its launch key before it launches it.
    """

    def __init__(
        self,
        request: JobRequest,
        *,
        number: int,
        record: RunRecord,
        runtime: Runtime,
        cancel: CancelRequest,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
    ) -> None:
        self.number = number
        self._request = request
        self._record = record
        self._runtime = runtime
        self._cancel = cancel
        self._logger = logger
        self._cluster = request.cluster_name or request.cloud

    @property
    def key(self) -> str:
        """The name of this attempt on the launcher."""
        return names.launch_key(self._record.run.id, self.number)

    async def attach(self) -> JobHandle | None:
        """The job this attempt already launched, if there is one.

        A run that was called crashed while its job lived is retried as the attempt that lives.
        """
        for number in {self.number, max(1, self.number - 1)}:
            key = names.launch_key(self._record.run.id, number)
            handle = await self._runtime.launcher.find(
                cloud=self._request.cloud, cluster_name=self._cluster, key=key
            )
            if handle is None:
                continue
            if number == self.number:
                return handle
            seen = await self._runtime.launcher.observe_job(handle)
            if seen is not None and not seen.state.is_terminal:
                self.number = number
                return handle
        return None

    async def launch(self) -> JobHandle | Outcome:
        """Launch the job, unless it was cancelled first."""
        if self._cancel.wanted.is_set():
            return Outcome(TerminationReason.USER_CANCELLED, "Cancelled before it was launched.")
        try:
            plan = await asyncio.to_thread(self._plan)
        except OumiFlowsError as error:
            return Outcome(TerminationReason.INVALID_CONFIG, f"{error.what}. {error.next_step}.")
        await self._record.show(JobState.LAUNCHING)
        job_config = with_job_environment(
            plan.job_config, key=self.key, settings=self._runtime.settings
        )
        try:
            handle = await self._runtime.launcher.launch(
                job_config, cloud=self._request.cloud, cluster_name=self._cluster, key=self.key
            )
        except ClusterUnreachable:
            raise
        except OumiFlowsError as error:
            return Outcome(TerminationReason.LAUNCH_FAILED, f"{error.what}. {error.next_step}.")
        self._logger.info("Launched %s on %s", handle.launcher_job_id, handle.cluster_name)
        return handle

    async def watch(self, handle: JobHandle) -> Outcome:
        """Follow the job to its end; on a cancel request, end it and wait until it is gone."""
        async with self._runtime.watcher.watch(handle) as (watched, cluster):
            report = Report(
                self._record,
                self._logger,
                interval_seconds=self._runtime.settings.progress_interval_seconds,
            )
            watch = _Watch(self, handle, watched, cluster, report)
            while True:
                outcome = await watch.step()
                if outcome is not None:
                    return await report.finish(outcome, watched.latest)
                await _first(
                    watched.changed,
                    self._cancel.news,
                    seconds=self._runtime.settings.progress_interval_seconds,
                )

    async def end(self) -> Outcome:
        """End the job of this attempt if it has one, and wait until it is gone."""
        handle = await self.attach()
        if handle is None:
            return Outcome(TerminationReason.USER_CANCELLED, "Cancelled before it was launched.")
        self._cancel.ask(force=self._record.force_cancel, concluded=False)
        return await self.watch(handle)

    def _plan(self) -> JobPlan:
        config = self._config()
        plan = make_plan(self._request, config)
        resume_from = self._resume_from(plan)
        return make_plan(self._request, config, resume_from=resume_from) if resume_from else plan

    def _config(self) -> ConfigFile:
        """The config as it was submitted, wherever its file went since."""
        sha256 = self._request.config_sha256
        path = Path(self._request.config_path)
        if sha256 is None:
            return read_config(path)
        try:
            return load_snapshot(sha256, self._runtime.settings.snapshots_dir)
        except ConfigNotFound:
            config = read_config(path)
        if config.sha256 != sha256:
            raise InvalidConfig(
                f"{path} changed after the job was submitted, and its copy is not on this machine",
                "Submit the job again",
            )
        return config

    def _resume_from(self, plan: JobPlan) -> Path | None:
        fresh = self._record.labels.get(names.LABEL_FRESH_ATTEMPT) == self.number
        if self.number == 1 or fresh or plan.output_dir is None:
            return None
        if self._request.command is not Command.TRAIN or not plan.argv:
            return None
        checkpoint = last_whole_checkpoint(Path(plan.output_dir))
        if checkpoint is None:
            self._logger.info("No whole checkpoint in %s: starting over", plan.output_dir)
            return None
        self._logger.info("Resuming from step %s: %s", checkpoint.step, checkpoint.path)
        return Path(checkpoint.path)

    async def send_cancel(self, handle: JobHandle) -> None:
        """Ask the launcher to end the job."""
        await self._runtime.launcher.cancel(handle, force=self._cancel.force)

    async def look_closely(self, handle: JobHandle) -> Observation | None:
        """One job by the launcher's most exact means."""
        return await self._runtime.launcher.observe_job(handle)

    @property
    def cancel(self) -> CancelRequest:
        """What was asked of this run."""
        return self._cancel

    async def record_handle(self, handle: JobHandle, seen: Observation | None) -> None:
        """Put the handle on the run."""
        await self._record.label_handle(
            handle, attempt=self.number, log_path=seen.log_path if seen else None
        )

    async def show_running(self) -> None:
        """Say that the job runs."""
        await self._record.show(JobState.RUNNING)

    @property
    def unreachable_timeout_seconds(self) -> float:
        """How long an unreachable job is still called running."""
        return self._runtime.settings.unreachable_timeout_seconds


class _Watch:
    """The state of following one job: what was sent, said and missed so far."""

    def __init__(
        self,
        attempt: Attempt,
        handle: JobHandle,
        watched: Watched,
        cluster: ClusterWatch,
        report: Report,
    ) -> None:
        self._attempt = attempt
        self._handle = handle
        self._watched = watched
        self._cluster = cluster
        self._report = report
        self._labelled = False
        self._cancel_due = False
        self._missing_since: float | None = None
        self._unreachable_since: float | None = None

    async def step(self) -> Outcome | None:
        """Take in what is new; the outcome once the job has ended."""
        self._watched.changed.clear()
        await self._pass_on_cancel()
        if self._watched.unreachable is not None:
            return await self._unreachable(self._watched.unreachable)
        self._unreachable_since = None
        if self._watched.looks == 0:
            return None
        seen = self._watched.latest
        if seen is None:
            seen = await self._look_for_missing()
            if seen is None:
                return self._lost()
        self._missing_since = None
        if not self._labelled:
            await self._attempt.record_handle(self._handle, seen)
            self._labelled = True
        if seen.state.is_terminal:
            return outcome_of(seen, cancel=self._attempt.cancel)
        if seen.state is LauncherState.RUNNING:
            await self._attempt.show_running()
        await self._report.update(seen)
        return None

    async def _pass_on_cancel(self) -> None:
        if self._attempt.cancel.news.is_set():
            self._attempt.cancel.news.clear()
            self._cancel_due = True
        if not self._cancel_due:
            return
        try:
            await self._attempt.send_cancel(self._handle)
        except OumiFlowsError as error:
            self._report.say("Cannot cancel yet, trying again: %s", error.what)
        else:
            self._cancel_due = False
        self._cluster.hurry()

    async def _unreachable(self, why: str) -> Outcome | None:
        now = asyncio.get_running_loop().time()
        self._unreachable_since = self._unreachable_since or now
        await self._report.unreachable(why, observed=self._watched.latest)
        if now - self._unreachable_since < self._attempt.unreachable_timeout_seconds:
            return None
        return Outcome(TerminationReason.LOST, f"Not reachable for too long: {why}")

    async def _look_for_missing(self) -> Observation | None:
        """A job that the cluster's list lacks, by its own id; a stand-in while we are not sure."""
        seen = await self._attempt.look_closely(self._handle)
        if seen is not None:
            return seen
        now = asyncio.get_running_loop().time()
        self._missing_since = self._missing_since or now
        if now - self._missing_since < _VANISHED_AFTER_SECONDS:
            return Observation(state=LauncherState.PENDING, observed_at=datetime.now(UTC))
        return None

    def _lost(self) -> Outcome:
        where = f"{self._handle.cloud}/{self._handle.cluster_name}"
        if self._attempt.cancel.wanted.is_set():
            return Outcome(TerminationReason.USER_CANCELLED, f"{where} no longer has the job.")
        return Outcome(TerminationReason.LOST, f"{where} no longer knows the job.")


def outcome_of(seen: Observation, *, cancel: CancelRequest) -> Outcome:
    """The outcome of a job that the launcher says has ended.

    A run that is being cancelled can only end cancelled (prefect 3.8), so a job that ended by
    itself before the cancel reached it says so in its message.
    """
    if seen.state is LauncherState.CANCELLED:
        if cancel.wanted.is_set():
            return Outcome(TerminationReason.USER_CANCELLED, "Cancelled on request.")
        return Outcome(
            TerminationReason.CANCELLED_EXTERNALLY,
            "Cancelled on the cluster, not through us.",
        )
    if cancel.wanted.is_set():
        ended = "finished" if seen.state is LauncherState.SUCCEEDED else f"failed ({seen.message})"
        return Outcome(
            TerminationReason.USER_CANCELLED, f"The job had {ended} before the cancel reached it."
        )
    if seen.state is LauncherState.SUCCEEDED:
        return Outcome(TerminationReason.COMPLETED, "The job finished.")
    return Outcome(seen.reason or TerminationReason.NONZERO_EXIT, seen.message or "The job failed.")


async def _first(*events: asyncio.Event, seconds: float) -> None:
    """Wait until one of the events is set, or for so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
