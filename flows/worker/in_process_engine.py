"""Prefect's async flow engine for many runs in one long-lived process.

Prefect's own engine (prefect 3.8) assumes one process per run. Measured with 40 runs of
a two-task flow submitted at once to an embedded SQLite server on 2 cores: 0.6 run starts a second
with `prefect.flow_engine.run_flow_async`, 5.2 with this subclass (docs/architecture.md).
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from prefect import Flow
from prefect._flow_run_suspension import FlowRunSuspensionRequest
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Abort
from prefect.flow_engine import AsyncFlowRunEngine
from prefect.results import ResultStore

from flows.core import names
from flows.core.prefect_states import PREFECT_STATE, state_message
from flows.core.states import JobState, TerminationReason
from flows.job.runtime import Runtime

_RUNNING = PREFECT_STATE[JobState.RUNNING]
_LAUNCHING = PREFECT_STATE[JobState.LAUNCHING]


class _NeverSuspended(FlowRunSuspensionRequest):
    """A request that nothing can make: a paused job is followed, and its processes are frozen."""

    def mark_requested(self, state: State[Any]) -> None:
        """Do nothing."""


_NEVER_SUSPENDED: Final = _NeverSuspended()


class InProcessFlowRunEngine(AsyncFlowRunEngine[Any, Any]):
    """Runs one flow run as a task of the worker's own event loop.

    Its differences from its base class (prefect 3.9):

    * No thread, event loop and websocket per run to observe suspension, which ends the execution:
      a thousand of them would cost a thousand threads. The worker observes pauses instead.
    * No thread and no events to show that the run's process lives: the worker's process is known
      to other workers (`flows.worker.ownership`).
    * A run that the end of the worker interrupts keeps its state, and the next worker adopts it;
      the base class would mark it as crashed.
    """

    def _get_flow_run_suspension_request(self) -> FlowRunSuspensionRequest:
        """Replace the base class's: an execution does not end because its run is suspended."""
        return _NEVER_SUSPENDED

    @property
    def heartbeat_seconds(self) -> int | None:
        """Send no heartbeats: see the class."""
        return None

    @contextmanager
    def setup_flow_run_suspension_request(self) -> Generator[FlowRunSuspensionRequest, None, None]:
        """Start no observer: see the class."""
        yield self._get_flow_run_suspension_request()

    async def handle_crash(self, exc: BaseException) -> None:
        """Keep the state of the run, so that a worker adopts it."""
        self.logger.debug("Execution cut off", exc_info=exc)

    async def handle_cancellation(self, exc: BaseException) -> None:
        """Do the same as `handle_crash`: a state cancels runs here, never a signal."""
        await self.handle_crash(exc)


class LastingRunEngine(InProcessFlowRunEngine):
    """Runs one run whose jobs outlive its execution.

    An error that reaches the engine says nothing about the jobs, which keep running: the run keeps
    its state, and the worker adopts it again; the base class would mark it as failed.
    """

    async def handle_exception(
        self,
        exc: Exception,
        msg: str | None = None,
        result_store: ResultStore | None = None,
    ) -> State[Any]:
        """Fail a run with invalid parameters; end only the execution after any other error.

        Raises:
            Abort: The error says nothing about the jobs.
        """
        if msg is not None:
            # The base class passes a message of its own for invalid parameters only.
            msg = state_message(TerminationReason.INVALID_CONFIG, msg)
            return await super().handle_exception(exc, msg=msg, result_store=result_store)
        self._raised = exc
        raise Abort(f"{type(exc).__name__}: {exc}") from exc


class JobRunEngine(LastingRunEngine):
    """Runs one job.

    The first state is named `Launching`, not `Running`, which saves one call per run; an adopted
    run keeps its state name, and one that is paused stays paused.
    """

    def is_running(self) -> bool:
        """Whether to execute the flow: the job of a paused run is followed too."""
        run = self.flow_run
        is_paused = run is not None and run.state is not None and run.state.is_paused()
        return is_paused or super().is_running()

    async def set_state(self, state: State[Any], force: bool = False) -> State[Any]:  # noqa: FBT001, FBT002 - the base class's signature
        """Propose a state; rename the engine's own `Running` to the state name of the job."""
        if (state.type.value, state.name) == _RUNNING:
            current = self.flow_run.state if self.flow_run else None
            if current is not None and current.is_paused():
                return current
            was_running = current is not None and current.is_running()
            state.name = current.name if was_running and current else _LAUNCHING.name
        return await super().set_state(state, force=force)


async def run_in_process(
    flow: Flow[Any, Any],
    flow_run: FlowRun,
    *,
    engine_type: type[InProcessFlowRunEngine] = JobRunEngine,
) -> State[Any]:
    """Run `flow_run` in this event loop until it ends, waits for a retry or is interrupted.

    Args:
        flow: The flow.
        flow_run: The run of it.
        engine_type: The engine, which decides what an error of the execution does to the run.

    Returns:
        The state of the run.

    Raises:
        Abort: The execution ended without concluding the run.
    """
    engine = engine_type(flow=flow, parameters=dict(flow_run.parameters), flow_run=flow_run)
    async with engine.start():
        while engine.is_running():
            async with engine.run_context():
                await engine.call_flow_fn()

    return engine.state


async def run_until_cancelled(flow: Flow[Any, Any], run: FlowRun, *, runtime: Runtime) -> bool:
    """Run a flow that is no job; return whether it was cancelled and interrupted."""
    is_lasting = flow.name in names.LASTING_FLOWS
    engine_type = LastingRunEngine if is_lasting else InProcessFlowRunEngine
    with runtime.cancel_request(run.id) as cancel:
        execution = asyncio.create_task(run_in_process(flow, run, engine_type=engine_type))
        wanted = asyncio.create_task(cancel.wait_until_wanted())
        try:
            await asyncio.wait({execution, wanted}, return_when=asyncio.FIRST_COMPLETED)
            if not execution.done():
                execution.cancel()
                await asyncio.wait({execution})
                return not cancel.is_concluded
            return (await execution).is_cancelling()
        finally:
            wanted.cancel()
            execution.cancel()
