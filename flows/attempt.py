"""One attempt of a job: attach to it or launch it, watch it to its end, end it on request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from flows import names
from flows.configs.checkpoints import last_whole_checkpoint
from flows.configs.plan import JobPlan, make_plan
from flows.configs.reader import ConfigFile, load_snapshot, read_config
from flows.errors import ClusterUnreachable, ConfigNotFound, InvalidConfig, OumiFlowsError
from flows.job_watch import JobWatch
from flows.launcher.job_environment import with_job_environment
from flows.models import Command, JobRequest
from flows.outcome import Outcome
from flows.ports import JobHandle
from flows.report import Report
from flows.run_record import RunRecord
from flows.runtime import CancelRequest, Runtime
from flows.states import JobState, TerminationReason

T = TypeVar("T")


class Attempt:
    """What happens to one attempt of a job, from its request to its outcome.

    The same code path serves the first start, a restart of the worker and a retry: it looks for
    the job under its launch key before it launches it.

    Args:
        request: What to run.
        number: The number of the attempt, from 1.
        is_new: Whether nobody executed the run before, so that no job of it can exist.
        record: The flow run.
        runtime: The launcher and the watcher.
        cancel: What is asked of the run.
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
        self.number = number
        self._is_new = is_new
        self._request = request
        self._record = record
        self._launcher = runtime.launcher
        self._runtime = runtime
        self._settings = runtime.settings
        self._cancel = cancel
        self._logger = logger
        self._report = Report(
            record, logger, interval_seconds=self._settings.progress_interval_seconds
        )
        self._cluster = request.cluster_name or request.cloud

    async def attach_or_launch(self) -> JobHandle | Outcome:
        """The job this attempt launched before, or else now."""

        async def attach_or_launch() -> JobHandle | Outcome:
            return await self._attach() or await self._launch()

        try:
            return await self._once_reachable(attach_or_launch)
        except OumiFlowsError as error:
            return Outcome(TerminationReason.LAUNCH_FAILED, error.sentences)

    async def watch(self, handle: JobHandle) -> Outcome:
        """Follow the job to its end; on a cancel request, end it and wait until it is gone."""
        watch = JobWatch(
            handle,
            attempt=self.number,
            record=self._record,
            runtime=self._runtime,
            cancel=self._cancel,
            report=self._report,
        )
        return await watch.outcome()

    async def end(self) -> Outcome:
        """End the job of this attempt if it has one, and wait until it is gone."""
        found = await self._once_reachable(self._attach)
        if found is None:
            return _cancelled_before_launch()
        if isinstance(found, Outcome):
            return found
        self._cancel.ask(force=self._record.force_cancel, concluded=False)
        return await self.watch(found)

    async def _once_reachable(self, call: Callable[[], Awaitable[T]]) -> T | Outcome:
        """The result of `call`, tried again while the cluster does not answer."""
        since = asyncio.get_running_loop().time()
        while True:
            try:
                return await call()
            except ClusterUnreachable as error:
                await self._report.unreachable(error.what, observed=None)
                waited = asyncio.get_running_loop().time() - since
                if waited > self._settings.unreachable_timeout_seconds:
                    return Outcome(
                        TerminationReason.LOST, f"Not reachable for too long: {error.what}"
                    )
            await asyncio.sleep(self._settings.poll_max_seconds)

    async def _attach(self) -> JobHandle | None:
        """The job this attempt already launched, if there is one.

        An attempt whose last one still lives is that one: it was given up, or called failed at
        its launch, while the job came to life.
        """
        if self._is_new:
            return None
        handle = await self._find(self.number)
        if handle is not None or self.number == 1:
            return handle
        earlier = await self._find(self.number - 1)
        seen = await self._launcher.observe_job(earlier) if earlier else None
        if seen is None or seen.state.is_terminal:
            return None
        await self._record.take_back_attempt()
        self.number -= 1
        return earlier

    async def _find(self, number: int) -> JobHandle | None:
        # What the run says was launched is not launched again, even if the launcher lost it.
        return self._record.handle(number, cloud=self._request.cloud) or await self._launcher.find(
            cloud=self._request.cloud, cluster_name=self._cluster, key=self._key(number)
        )

    def _key(self, number: int) -> str:
        """The name of an attempt on the launcher."""
        return names.launch_key(self._record.run.id, number)

    async def _launch(self) -> JobHandle | Outcome:
        """Launch the job, unless it was cancelled first."""
        if self._cancel.wanted.is_set():
            return _cancelled_before_launch()
        try:
            job_config = await asyncio.to_thread(self._job_config)
        except OumiFlowsError as error:
            return Outcome(TerminationReason.INVALID_CONFIG, error.sentences)
        except OSError as error:
            return Outcome(TerminationReason.LAUNCH_FAILED, f"The job was not prepared: {error}")
        await self._record.show(JobState.LAUNCHING)
        self._is_new = False
        try:
            handle = await self._launcher.launch(
                job_config,
                cloud=self._request.cloud,
                cluster_name=self._cluster,
                key=self._key(self.number),
            )
        except InvalidConfig as error:
            return Outcome(TerminationReason.INVALID_CONFIG, error.sentences)
        self._logger.info("Launched %s on %s", handle.launcher_job_id, handle.cluster_name)
        return handle

    def _job_config(self) -> str:
        """The exact job config to launch."""
        plan = self._plan()
        return with_job_environment(
            plan.job_config, key=self._key(self.number), settings=self._settings
        )

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
            return load_snapshot(sha256, self._settings.snapshots_dir)
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


def _cancelled_before_launch() -> Outcome:
    return Outcome(TerminationReason.USER_CANCELLED, "Cancelled before it was launched.")
