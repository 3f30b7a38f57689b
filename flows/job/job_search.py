"""Finds the job of an attempt on its cluster, and decides what happens if the cluster is silent."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from flows.core import names
from flows.core.errors import CloudUnavailable, ClusterUnreachable, OumiFlowsError, StillLaunching
from flows.core.models import JobHandle, JobRequest
from flows.core.states import TerminationReason
from flows.job.launch_plan import LaunchPlan
from flows.job.letting_go import Patience
from flows.job.outcome import Outcome, cancelled_before_launch
from flows.job.reporting import Report
from flows.job.run_record import RunRecord
from flows.job.runtime import CancelRequest, Runtime
from flows.job.submissions import Submissions

T = TypeVar("T")


class JobSearch:
    """Looks for the job that one attempt launched, on a cluster that may not answer.

    Args:
        request: What to run.
        number: The number of the attempt, from 1.
        record: The flow run.
        runtime: The launcher and the settings.
        cancel: The cancel request of the run.
        report: Says that the cluster does not answer.
        submissions: The attempts that may have reached the cluster.
        plan: Names the cluster.
    """

    def __init__(
        self,
        request: JobRequest,
        *,
        number: int,
        record: RunRecord,
        runtime: Runtime,
        cancel: CancelRequest,
        report: Report,
        submissions: Submissions,
        plan: LaunchPlan,
    ) -> None:
        self.number = number
        """The number of the attempt; `attach` lowers it if an earlier job is still alive."""
        self._request = request
        self._record = record
        self._launcher = runtime.launcher
        self._settings = runtime.settings
        self._cancel = cancel
        self._report = report
        self._submissions = submissions
        self._plan = plan
        self._cluster: str | None = None

    async def repeat_until_reachable(self, call: Callable[[Patience], Awaitable[T]]) -> T | Outcome:
        """Return the result of `call`; repeat it while the cluster does not answer."""
        patience = await self.patience()
        while True:
            try:
                return await call(patience)
            except CloudUnavailable as error:
                if not self._cancel.is_wanted:
                    raise
                silence = ClusterUnreachable(error.what, error.next_step)
            except ClusterUnreachable as error:
                silence = error
            await self._report.show_unreachable(silence.what, observed=None)
            given_up = self._decide_end(silence, patience)
            if given_up is not None:
                return given_up
            await self._cancel.rest(self._settings.poll_max_seconds)

    async def attach(self, patience: Patience) -> JobHandle | None:
        """Find the job that this attempt already launched, if there is one.

        If the job of the previous attempt still lives, follow it and take its number: it was given
        up too early, or its launch counted as failed before its job started.
        """
        handle = None
        if self._submissions.may_have(self.number):
            handle = await patience.ask(self._find(self.number))
        last = self._submissions.last_before(self.number)
        if handle is not None or not last:
            return handle
        try:
            earlier = await patience.ask(self._find(last))
        except StillLaunching as error:  # launching this attempt would not take that launch up
            raise ClusterUnreachable(error.what, error.next_step) from error
        if earlier is None:
            return None
        seen = await patience.ask(self._launcher.observe_job(earlier))
        if seen is None or seen.state.is_terminal:
            return None
        if seen.is_another_than(self.key(last)):
            return None  # its cluster was made again, and counts its jobs from 1
        await self._record.take_back_attempts(self.number - last)
        self.number = last
        return earlier

    async def cluster(self) -> str:
        """The cluster's name."""
        if self._cluster is None:
            self._cluster = await asyncio.to_thread(self._plan.cluster_name)
        return self._cluster

    @property
    def adopted_job(self) -> JobHandle | None:
        """The job that this run follows and oumi-flows did not launch."""
        request = self._request
        if request.launcher_job_id is None:
            return None
        return JobHandle(
            cloud=request.cloud,
            cluster_name=request.cluster_name,
            launcher_job_id=request.launcher_job_id,
        )

    def key(self, number: int) -> str:
        """The name of an attempt on the launcher."""
        return names.launch_key(self._record.run.id, number)

    async def patience(self) -> Patience:
        """Create the patience of one series of calls to the cluster."""
        with suppress(OumiFlowsError):  # raised again where it matters
            await self.cluster()
        return Patience(
            self._cancel,
            self._settings,
            cloud=self._request.cloud,
            cluster=self._cluster or self._request.cluster_name,
            job=f"A job named {self.key(self.number)}",
        )

    def _decide_end(self, silence: ClusterUnreachable, patience: Patience) -> Outcome | None:
        """Decide how the attempt ends while its cluster does not answer; None: ask it again."""
        wanted = self._cancel.is_wanted or self._record.is_cancelling
        if wanted and not self._submissions.may_live(self.number):
            return cancelled_before_launch()
        if wanted or self._submissions.may_have(self.number):
            return patience.outcome(silence)
        if patience.silent_for() < self._settings.reach_timeout_seconds:
            return None
        what = f"{silence.what.rstrip('. ')}; nothing was submitted."
        text = f"{what} Retry the job once the worker reaches the cluster."
        return Outcome(TerminationReason.LAUNCH_FAILED, text)

    async def _find(self, number: int) -> JobHandle | None:
        if self.adopted_job is not None:
            return self.adopted_job if number == 1 else None
        # A job that the run records as launched is not launched again, even if it is lost.
        return self._record.handle(number, cloud=self._request.cloud) or await self._launcher.find(
            cloud=self._request.cloud, cluster_name=await self.cluster(), key=self.key(number)
        )
