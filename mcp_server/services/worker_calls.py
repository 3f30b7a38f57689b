"""Questions that only the worker's machine can answer: each is a short flow run of its own."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import uuid4

import anyio
from pydantic import TypeAdapter, ValidationError

from flows.core import names
from flows.core.direct_questions import Reply
from flows.core.errors import (
    ERRORS,
    Conflict,
    EngineUnavailable,
    InternalError,
    OperationTimeout,
    OumiFlowsError,
)
from flows.core.models import Answer
from flows.core.prefect_states import PREFECT_STATE
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.direct_questions import DirectQuestions
from mcp_server.services.polls import Polls

_TAKEN_UP_SECONDS: Final = 2.5
"""How long a running worker may take to begin."""
_LOADED_SECONDS: Final = 25.0
"""How long a worker that just started may take to begin."""
_FRESH: Final = timedelta(seconds=60)
_RUNS: Final = TypeAdapter(list[FlowRun])

T = TypeVar("T", bound=Answer)


class WorkerCalls:
    """Runs flows that answer (`flows.answers.answering.answering`) and waits for their results.

    Args:
        gateway: Prefect's API.
        direct: The fast way for `call`, where there is one; None: a flow run for each question.
    """

    def __init__(self, gateway: PrefectGateway, *, direct: DirectQuestions | None = None) -> None:
        self._gateway = gateway
        self._direct = direct

    async def refuse_if_starting(self, *, within_seconds: float) -> None:
        """Refuse a question that would wait for an engine that only starts.

        Args:
            within_seconds: How long to wait for it at most.

        Raises:
            EngineUnavailable: It is not up by then.
        """
        with anyio.move_on_after(within_seconds) as waiting:
            await self._gateway.ui_url()  # waits for the engine, and raises nothing
        if waiting.cancelled_caught:
            raise EngineUnavailable(
                "the engine is still starting", "Ask again in half a minute; the start continues"
            )

    async def call(
        self,
        flow: str,
        parameters: Mapping[str, Any],
        answer_type: type[T],
        *,
        timeout_seconds: float,
        name: str = "",
    ) -> T:
        """Ask the worker and wait for the answer; cancel the question if it is late.

        Args:
            flow: The flow's name.
            parameters: The flow's parameters, as JSON.
            answer_type: Type that the flow returns.
            timeout_seconds: How long to wait at most.
            name: The run's name in the Prefect UI; empty: the flow's.

        Raises:
            OumiFlowsError: The flow raised it.
            OperationTimeout: The flow did not end in time.
            EngineUnavailable: No worker took the run.
        """
        if self._direct is not None:
            reply = await self._direct.ask(flow, parameters, timeout_seconds=timeout_seconds)
            if reply is not None:
                return _read(reply, answer_type, name or flow)
        run = await self._create(flow, parameters, name=name or flow, key=uuid4().hex)
        run = await self._await_end(run, timeout_seconds)
        if run.state.job_state.is_terminal:
            return await self._answer(run, answer_type)
        raise _late(await self._withdraw(run))

    async def call_again(
        self,
        flow: str,
        parameters: Mapping[str, Any],
        answer_type: type[T],
        *,
        timeout_seconds: float,
        name: str,
    ) -> T:
        """Ask as `call` does; a late question continues, and the next call gets its answer.

        Raises:
            OumiFlowsError: The flow raised it.
            OperationTimeout: There is no answer yet.
            EngineUnavailable: No worker took the run.
        """
        last = await self._last(flow, parameters, name=name)
        is_unread = _is_unread(last)
        if last is None or not _can_continue(last):
            last = await self._create(flow, parameters, name=name, key=uuid4().hex)
            is_unread = False
        run = await self._await_end(last, timeout_seconds)
        if run.state.job_state.is_terminal:
            return await self._take_answer(run, answer_type, is_unread=is_unread)
        if not run.run_count:
            raise _late(await self._withdraw(run))
        await self._gateway.patch_labels(run.id, RunLabels(unread=True))
        raise OperationTimeout(
            f"{name} had no answer within {timeout_seconds:g} s and continues",
            "Call again for the answer",
        )

    async def order(
        self,
        flow: str,
        parameters: Mapping[str, Any],
        answer_type: type[T],
        *,
        timeout_seconds: float,
        name: str,
    ) -> T | None:
        """Order work that may take minutes, from a flow that sets `oumi.ordered`.

        A call joins a run of the same order that has not ended, and gets the answer of one that
        ended after the call before it had stopped waiting.

        Returns:
            What the flow returned; None: it has the order and has not confirmed its end.

        Raises:
            OumiFlowsError: The flow raised it.
            OperationTimeout: The order was not given and was cancelled.
            EngineUnavailable: No worker took the run, which was cancelled.
        """
        last = await self._last(flow, parameters, name=name)
        is_unread = _is_unread(last)
        run = last if last and _can_continue(last) else None
        if run is None:
            # Two calls at once get the same run.
            key = " ".join([name, *map(str, parameters.values()), last.id if last else ""])
            run = await self._create(flow, parameters, name=name, key=key)
            is_unread = False
        run = await self._await_end(run, timeout_seconds)
        if run.state.job_state.is_terminal:
            return await self._take_answer(run, answer_type, is_unread=is_unread)
        if not run.labels.ordered:
            run = await self._withdraw(run)
            if not run.labels.ordered:
                raise _late(run)
        if not is_unread:
            await self._gateway.patch_labels(run.id, RunLabels(unread=True))
        return None

    async def _create(
        self, flow: str, parameters: Mapping[str, Any], *, name: str, key: str
    ) -> FlowRun:
        return await self._gateway.create_run(
            name=name,
            parameters=parameters,
            tags=[names.CALL_TAG],
            labels=RunLabels(),
            idempotency_key=key,
            flow=flow,
            work_queue=names.CALL_QUEUE,
        )

    async def _last(self, flow: str, parameters: Mapping[str, Any], *, name: str) -> FlowRun | None:
        """Read the last run of a question."""
        body = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"tags": {"all_": [names.CALL_TAG]}, "name": {"any_": [name]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": MAX_PAGE,
        }
        runs = await self._gateway.ask("POST", "/flow_runs/filter", body, _RUNS) or []
        return next((run for run in runs if run.parameters == parameters), None)

    async def _take_answer(self, run: FlowRun, answer_type: type[T], *, is_unread: bool) -> T:
        """The answer of a run that has ended; no later call gets it again."""
        if is_unread:
            await self._gateway.patch_labels(run.id, RunLabels(unread=False))
        return await self._answer(run, answer_type)

    async def _await_end(self, run: FlowRun, timeout_seconds: float) -> FlowRun:
        """Wait until the run has ended or the time is up; return the run as last read.

        The time that a worker needs to load does not count.
        """
        begun = time.monotonic()
        deadline = begun + timeout_seconds
        taken_up_by = begun + min(timeout_seconds, _TAKEN_UP_SECONDS)
        polls = Polls(first=0.1, longest=0.5, growth=1.2)
        while not run.state.job_state.is_terminal:
            now = time.monotonic()
            if not run.run_count and now >= taken_up_by:
                if now >= begun + _LOADED_SECONDS or not await self._gateway.has_worker():
                    return run
                taken_up_by = now + _TAKEN_UP_SECONDS
                deadline = max(deadline, taken_up_by + min(timeout_seconds, _TAKEN_UP_SECONDS))
            if now >= deadline:
                return run
            until = deadline if run.run_count else min(deadline, taken_up_by)
            await polls.pause(at_most=until - now)
            run = await self._gateway.read_run(run.id)
        return run

    async def _withdraw(self, run: FlowRun) -> FlowRun:
        """Cancel a run; return it as read just after."""
        await self._gateway.set_state(
            run.id,
            PREFECT_STATE[JobState.CANCELLING],
            message="The caller stopped waiting.",
            repeatable=True,
        )
        return await self._gateway.read_run(run.id)

    async def _answer(self, run: FlowRun, answer_type: type[T]) -> T:
        if run.state.job_state is not JobState.SUCCEEDED:
            raise _refusal(run)
        answers = await self._gateway.read_artifacts([run.id], artifact_type=names.ANSWER_ARTIFACT)
        return _parse(answers[0].data if answers else None, answer_type, run.name)


def _parse(data: Any, answer_type: type[T], name: str) -> T:
    try:
        return answer_type.model_validate(data)
    except ValidationError as error:
        raise InternalError(
            f"The worker's answer to {name} cannot be read",
            "Restart the engine with `oumi-flows down` and `oumi-flows up`, so that the "
            "worker and this server are of one version",
        ) from error


def _read(reply: Reply, answer_type: type[T], name: str) -> T:
    if reply.answer is not None:
        return _parse(reply.answer, answer_type, name)
    raise _error_of(reply.refusal) or InternalError(
        f"The worker failed at {name} ({reply.refusal[:300]})", "Read the worker's log"
    )


def _is_unread(run: FlowRun | None) -> bool:
    """Whether the caller stopped waiting for the run's answer."""
    return run is not None and run.labels.unread


def _can_continue(run: FlowRun) -> bool:
    """Whether a call gets the answer of this run of its question, instead of asking again."""
    return _is_live(run) or (_is_unread(run) and _is_fresh(run))


def _is_live(run: FlowRun) -> bool:
    """Whether a run has not ended and was not cancelled."""
    state = run.state.job_state
    return not state.is_terminal and state is not JobState.CANCELLING


def _is_fresh(run: FlowRun) -> bool:
    """Whether a run's answer is recent enough."""
    if run.state.job_state is not JobState.SUCCEEDED or run.end_time is None:
        return False
    # An answer from the future dates from before the clock was set back.
    return abs(datetime.now(UTC) - run.end_time) < _FRESH


def _late(run: FlowRun) -> OumiFlowsError:
    if not run.run_count:
        return EngineUnavailable(
            f"No worker took {run.name} in time",
            "Run `oumi-flows status` to see whether the worker is up, then try again",
        )
    return OperationTimeout(
        f"The worker did not answer {run.name} in time",
        "Try again; `oumi-flows doctor` shows what the worker is doing",
    )


def _refusal(run: FlowRun) -> OumiFlowsError:
    """Read the error from the flow's state."""
    message = run.state.message or ""
    if run.state.job_state is JobState.CANCELLED:
        return Conflict(f"{run.name} was cancelled", "Call again if you still need it")
    return _error_of(message) or InternalError(
        f"The worker failed at {run.name} ({run.state.name}: {message[:300]})",
        "Open the run in the Prefect UI, and read the worker's log",
    )


def _error_of(text: str) -> OumiFlowsError | None:
    """The error of ours whose text this is."""
    code, colon, sentences = text.partition(": ")
    error_type = ERRORS.get(code)
    if not colon or error_type is None:
        return None
    what, stop, next_step = sentences.partition(". ")
    return error_type(what, next_step if stop else "Open the run in the Prefect UI")
