"""What Prefect asks of active runs: their end, a pause. Pauses that cannot be are taken back."""

from collections.abc import Collection, Iterable
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.logging.loggers import flow_run_logger
from prefect.states import Scheduled

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.prefect_states import PAUSED_WAITING, PREFECT_STATE, job_state
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from flows.job.pause_request import Pause, in_words
from flows.job.run_record import RunRecord
from flows.job.run_request import request_of
from flows.job.runtime import Runtime

_WAITING: Final = frozenset({StateType.SCHEDULED, StateType.PENDING})
_OF_PARENT: Final = (
    "A pipeline or a sweep cannot be paused as a whole: its jobs go on. Pause one that runs on "
    "this machine on its own page."
)


class RunRequests:
    """Passes on what is asked of a worker's runs, and deals with paused ones that it cannot freeze.

    Args:
        client: The client of the worker.
        runtime: The requests of its runs.
    """

    def __init__(self, client: PrefectClient, runtime: Runtime) -> None:
        self._client = client
        self._runtime = runtime

    async def pass_on(self, ids: Collection[object], asked: Iterable[FlowRun]) -> None:
        """Pass on what Prefect says of active runs.

        Args:
            ids: The runs that were looked at.
            asked: Those of them in a state that asks for something.
        """
        for run in asked:
            request = self._runtime.cancels.get(run.id)
            if request is not None and run.state is not None and _is_ending(run.state):
                request.ask(
                    force=RunLabels.read(run.labels).force_cancel, concluded=run.state.is_final()
                )
        states = {run.id: run.state for run in asked}
        for job_id in self._runtime.pauses.keys() & set(ids):
            self._runtime.pauses[job_id].note(states.get(job_id))
        for run in asked:
            if Pause.of(run.state) is not None:
                await self.take_back(run)

    async def take_back(self, run: FlowRun) -> FlowRun:
        """Put a paused run that cannot be paused back in its state; return the changed run."""
        why = why_not(run)
        if why is None or run.state is None:
            return run
        record = RunRecord(run, self._client)
        before = await self._state_before(run)
        is_known = before is not None and before.type is StateType.RUNNING
        state = job_state("RUNNING", before.name or "") if before and is_known else JobState.RUNNING
        await record.end_pause(run.state.id, state, why)
        if not record.is_paused:  # otherwise the next look tries again
            flow_run_logger(run).warning("It was paused in Prefect. %s", why)
        return record.run

    async def keep_waiting(self, run: FlowRun) -> bool:
        """Keep a paused run that has no job from starting; False: it has begun, so follow its job.

        It waits until it is resumed, or until its pause is over.
        """
        pause = Pause.of(run.state)
        if pause is None or run.state is None:
            return False
        if run.state.name != PAUSED_WAITING.name:
            before = await self._state_before(run)
            if before is None or before.type not in _WAITING:
                return False
            message = (
                f"Paused in Prefect at {in_words(pause.since)}, before it began, so it does not "
                f"start. {pause.end}"
            )
            state = pause.apply(PAUSED_WAITING, message=message, reschedules=True)
            await self._client.set_flow_run_state(run.id, state, force=True)
        if pause.is_over:
            over = Scheduled(
                name=PREFECT_STATE[JobState.SCHEDULED].name,
                message=f"Its pause was over at {in_words(pause.until)}.",
            )
            await self._client.set_flow_run_state(run.id, over, force=True)
        return True

    async def _state_before(self, run: FlowRun) -> "State[object] | None":
        """The state of a run before it was paused."""
        history = await self._client.read_flow_run_states(run.id)
        earlier = [state for state in history if not state.is_paused()]
        return max(earlier, key=lambda state: state.timestamp, default=None)


def _is_ending(state: "State[Any]") -> bool:
    return state.is_final() or state.is_cancelling()


def why_not(run: FlowRun) -> str | None:
    """Why a run cannot be paused; None: it can."""
    if f"{names.COMMAND_TAG}{names.PIPELINE_COMMAND}" in run.tags:
        return _OF_PARENT
    if f"{names.COMMAND_TAG}{names.SWEEP_COMMAND}" in run.tags:
        return _OF_PARENT
    request = request_of(run)
    if request is None:
        return "Only jobs can be paused: this run goes on."
    if is_local(request.cloud):
        return None
    return (
        f"A job on {request.cloud} cannot be paused: it goes on there. Only jobs on the worker's "
        "machine can be. Cancel it to stop it."
    )
