"""Which due runs may start now, and what a run shows that must wait."""

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.worker.pool_runs import LATE
from flows.worker.schedule_overlap import LONGEST_QUEUE, Overlaps


class Slots:
    """The jobs that one worker may run at once.

    Args:
        limit: The most jobs, on any cloud; None: no limit.
        local_limit: The most jobs on this machine.
    """

    def __init__(self, *, limit: int | None, local_limit: int) -> None:
        self._limit = limit
        self._local_limit = local_limit

    def has_room(self, job: FlowRun, *, active: Iterable[FlowRun]) -> bool:
        """Whether a job may start.

        Args:
            job: The run of the job.
            active: Runs that the worker executes. Only jobs take a slot: pipelines and sweeps wait
                for jobs, and must not take their slots.
        """
        clouds = [cloud for run in active if (cloud := cloud_of(run))]
        if self._limit is not None and len(clouds) >= self._limit:
            return False
        cloud = cloud_of(job)
        if cloud is None or not is_local(cloud):
            return True
        return sum(map(is_local, clouds)) < self._local_limit


class WaitingRuns:
    """The due runs that do not start yet.

    Args:
        client: The client of the worker.
        logger: The log of the worker.
        longest_queue: The most runs of one schedule that wait for each other.
    """

    def __init__(
        self,
        client: PrefectClient,
        logger: "logging.Logger | logging.LoggerAdapter[Any]",
        *,
        longest_queue: int = LONGEST_QUEUE,
    ) -> None:
        self._client = client
        self._overlaps = Overlaps(client, longest=longest_queue)
        self._logger = logger

    async def show(self, run: FlowRun, why: str) -> None:
        """Show that a run waits, and why."""
        if run.state_name in (LATE, "AwaitingRetry"):
            return
        state = State(type=StateType.SCHEDULED, name=LATE, message=why)
        state.state_details.scheduled_time = run.next_scheduled_start_time
        try:
            await self._client.set_flow_run_state(run.id, state)
        except ObjectNotFound:
            self._logger.info("Flow run %s was deleted", run.id)

    async def hold_back(self, due: Sequence[FlowRun], *, active: Collection[FlowRun]) -> set[UUID]:
        """Skip or queue the runs that must wait for an earlier run of their schedule.

        Args:
            due: Runs whose start time has come and that have not started.
            active: Runs that the worker executes.

        Returns:
            The runs that must not start now.
        """
        held = await self._overlaps.find_held(due, active=active)
        for one in held:
            try:
                if one.for_good:
                    await self._overlaps.skip(one)
                else:
                    await self.show(one.run, one.why)
            except ObjectNotFound:
                self._logger.info("Flow run %s was deleted", one.run.id)
        return {one.run.id for one in held}


def cloud_of(run: FlowRun) -> str | None:
    """The cloud of a job; None if the run is no job."""
    request: object = run.parameters.get("request")
    if not isinstance(request, dict):
        return None
    return str(cast("dict[str, object]", request).get("cloud") or names.LOCAL_CLOUD)
