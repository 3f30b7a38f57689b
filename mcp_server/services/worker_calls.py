"""Questions that only the worker's machine can answer: each is a short flow run of its own."""

import time
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar
from uuid import uuid4

import anyio
from pydantic import ValidationError

from flows import names
from flows.errors import ERRORS, EngineUnavailable, InternalError, OperationTimeout, OumiFlowsError
from flows.models import Answer
from flows.prefect_states import PREFECT_STATE
from flows.states import JobState
from mcp_server.prefect_gateway import PrefectGateway
from mcp_server.prefect_models import FlowRun

_POLL_SECONDS: Final = 0.1
_LONGEST_POLL_SECONDS: Final = 0.5
_POLL_GROWTH: Final = 1.2

T = TypeVar("T", bound=Answer)


class WorkerCalls:
    """Runs flows that answer (`flows.answers.answering`) and waits for what they say.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway

    async def call(
        self,
        flow: str,
        parameters: Mapping[str, Any],
        answer_type: type[T],
        *,
        timeout_seconds: float,
        name: str = "",
        if_late: Literal["cancel", "leave"] = "cancel",
    ) -> T:
        """Ask the worker, and wait for the answer.

        Args:
            flow: The flow's name.
            parameters: The flow's parameters, as JSON.
            answer_type: What the flow returns.
            timeout_seconds: How long to wait at most.
            name: The run's name in the Prefect UI; empty: the flow's.
            if_late: What becomes of a run that has begun and is not done by then; one that no
                worker took up is cancelled in any case.

        Raises:
            OumiFlowsError: The one that the flow raised.
            OperationTimeout: It did not end in time.
        """
        deadline = time.monotonic() + timeout_seconds
        run = await self._gateway.create_run(
            name=name or flow,
            parameters=parameters,
            tags=[names.CALL_TAG],
            labels={},
            idempotency_key=uuid4().hex,
            flow=flow,
            work_queue=names.CALL_QUEUE,
        )
        run = await self._ended(run, deadline, if_late)
        if run.state.job_state is not JobState.SUCCEEDED:
            raise _refusal(run)
        answers = await self._gateway.read_artifacts([run.id], artifact_type=names.ANSWER_ARTIFACT)
        try:
            return answer_type.model_validate(answers[0].data)
        except (IndexError, ValidationError) as error:
            raise InternalError(
                f"The worker's answer to {run.name} cannot be read",
                "Restart the engine with `oumi-flows down` and `oumi-flows up`, so that the "
                "worker and this server are of one version",
            ) from error

    async def _ended(self, run: FlowRun, deadline: float, if_late: str) -> FlowRun:
        interval = _POLL_SECONDS
        while not run.state.job_state.is_terminal:
            left = deadline - time.monotonic()
            if left <= 0:
                return await self._give_up(run, if_late)
            await anyio.sleep(min(interval, left))
            interval = min(interval * _POLL_GROWTH, _LONGEST_POLL_SECONDS)
            run = await self._gateway.read_run(run.id)
        return run

    async def _give_up(self, run: FlowRun, if_late: str) -> FlowRun:
        waiting = not run.run_count
        if if_late == "leave" and not waiting:
            raise OperationTimeout(
                f"{run.name} is still under way, and goes on",
                "Look again in a while, here or at the run in the Prefect UI",
            )
        await self._gateway.set_state(
            run.id,
            PREFECT_STATE[JobState.CANCELLING],
            message="Nobody waits for the answer any more.",
            repeatable=True,
        )
        if waiting:
            raise EngineUnavailable(
                f"No worker took up {run.name} in time",
                "Run `oumi-flows status` to see whether the worker is up, then try again",
            )
        raise OperationTimeout(
            f"The worker did not answer {run.name} in time",
            "Try again; `oumi-flows doctor` tells what the worker is doing",
        )


def _refusal(run: FlowRun) -> OumiFlowsError:
    """The error that the flow's state carries."""
    message = run.state.message or ""
    code, colon, text = message.partition(": ")
    error_type = ERRORS.get(code)
    if colon and error_type is not None:
        what, stop, next_step = text.partition(". ")
        return error_type(what, next_step if stop else "Look at the run in the Prefect UI")
    return InternalError(
        f"The worker failed at {run.name} ({run.state.name}: {message[:300]})",
        "Look at the run in the Prefect UI, and at the worker's log",
    )
