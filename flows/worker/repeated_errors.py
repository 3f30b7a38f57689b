"""Executions that end with the same error repeatedly, and when to give up their run."""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from logging import Logger, LoggerAdapter
from typing import Final, NamedTuple
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort, ObjectNotFound, Pause

from flows.core.redaction import Redactor, secrets_of
from flows.core.run_labels import RunLabels
from flows.core.states import TerminationReason
from flows.job.outcome import Outcome
from flows.job.run_request import request_of

_TRIES: Final = 5
_TRIES_LAUNCHED: Final = 10
"""For a run whose job was launched: the job may run well, and the error may be temporary."""
_PAUSE_FACTOR_MAX: Final = 12
_LONG_SECONDS: Final = 600.0
"""An error after such a long execution counts as the first one again."""
_PASSING: Final = frozenset({401, 403, 404, 408, 409, 429})
"""Answers of the Prefect server below 500 that say nothing about the run."""
_TEXT_CHARS: Final = 300


class Repeated(NamedTuple):
    """The same error in consecutive executions of a run."""

    kind: str
    text: str
    is_cancel: bool
    times: int
    due_at: float

    @property
    def is_too_often(self) -> bool:
        """Whether a run may be given up because of it."""
        return self.times >= _TRIES


class RepeatedErrors:
    """The last error of each run of a worker, and when the run may be executed again.

    Args:
        pause_seconds: The first pause between two executions; it doubles, up to 12 times that.
    """

    def __init__(self, *, pause_seconds: float) -> None:
        self._pause = pause_seconds
        self._last: dict[UUID, Repeated] = {}

    def add(
        self, run_id: UUID, error: BaseException, *, is_cancel: bool, lasted_seconds: float
    ) -> Repeated:
        """Count an error that ended an execution.

        Args:
            run_id: The run.
            error: The error.
            is_cancel: Whether the execution was a cancel of the run.
            lasted_seconds: How long the execution took.
        """
        kind = _kind(error)
        before = self._last.get(run_id)
        is_same = before is not None and (before.kind, before.is_cancel) == (kind, is_cancel)
        count = before.times + 1 if before and is_same and lasted_seconds < _LONG_SECONDS else 1
        pause = self._pause * min(2 ** max(0, count - 2), _PAUSE_FACTOR_MAX)
        text = Redactor(secrets_of(os.environ)).text(f"{type(error).__name__}: {error}")
        text = text[:_TEXT_CHARS]
        now = asyncio.get_running_loop().time()
        # The worker looks for such runs once per first pause: half of one early is in time for it.
        self._last[run_id] = Repeated(kind, text, is_cancel, count, now + pause - self._pause / 2)
        return self._last[run_id]

    def forget(self, run_id: UUID) -> None:
        """Forget the errors of a run, after an execution without an error."""
        self._last.pop(run_id, None)

    def is_due(self, run_id: UUID, *, is_cancel: bool) -> bool:
        """Whether a run may be executed again; a cancel since then does not wait."""
        known = self._last.get(run_id)
        if known is None or known.is_cancel != is_cancel:
            return True
        return asyncio.get_running_loop().time() >= known.due_at


def cause_of(error: BaseException) -> BaseException | None:
    """The error that ended an execution; None if it says nothing about the run.

    Args:
        error: What the execution raised; an `Abort` has the error as its cause.
    """
    cause = error.__cause__ if isinstance(error, Abort | Pause) else error
    if isinstance(cause, httpx.HTTPStatusError):
        status = cause.response.status_code
        return cause if 400 <= status < 500 and status not in _PASSING else None
    if cause is None or isinstance(cause, httpx.HTTPError | TimeoutError | ObjectNotFound):
        return None
    return cause


async def error_of_execution(
    execute: Callable[[FlowRun], Awaitable[None]],
    run: FlowRun,
    *,
    logger: "Logger | LoggerAdapter[Logger]",
) -> BaseException | None:
    """Execute a run; return the error if it says something about the run."""
    try:
        await execute(run)
    except (Abort, Pause) as signal:
        logger.info("Stopped executing flow run %s: %s", run.id, signal)
        return cause_of(signal)
    except ObjectNotFound:
        logger.info("Flow run %s was deleted", run.id)
    except (httpx.HTTPError, TimeoutError) as error:
        logger.warning("Lost contact with flow run %s: %r", run.id, error)
        return cause_of(error)
    except Exception as error:
        logger.exception("Flow run %s is executed again after an error", run.id)
        return cause_of(error)
    return None


async def give_up_if_too_often(
    run: FlowRun,
    error: BaseException,
    *,
    errors: "RepeatedErrors",
    lasted_seconds: float,
    client: PrefectClient,
    logger: "Logger | LoggerAdapter[Logger]",
) -> None:
    """Give up a run that had the same error too often; another run is executed again.

    Args:
        run: The run, as it was when its execution began.
        error: How this execution ended.
        errors: The errors of executions before.
        lasted_seconds: How long this execution lasted.
        client: Sets the run's state.
        logger: The worker's log.
    """
    is_cancel = is_cancelling(run)
    repeated = errors.add(run.id, error, is_cancel=is_cancel, lasted_seconds=lasted_seconds)
    if not repeated.is_too_often:
        return
    run = await client.read_flow_run(run.id)
    if run.state is None or run.state.is_final() or not is_given_up(run, repeated):
        return
    if is_cancelling(run) and not repeated.is_cancel:
        return  # its cancel was not tried yet
    outcome = outcome_for(run, repeated)
    logger.error("Flow run %s: %s", run.id, outcome.text)
    # Without force, the server accepts only Cancelled after Cancelling (prefect 3.9).
    await client.set_flow_run_state(run.id, outcome.state, force=True)
    errors.forget(run.id)


def is_cancelling(run: FlowRun) -> bool:
    """Whether the run is to end as cancelled."""
    return run.state is not None and run.state.is_cancelling()


def is_given_up(run: FlowRun, repeated: Repeated) -> bool:
    """Whether to give up a run; a run whose jobs may run well gets more tries."""
    return repeated.times >= (_TRIES_LAUNCHED if _has_jobs(run) else _TRIES)


def outcome_for(run: FlowRun, repeated: Repeated) -> Outcome:
    """The outcome of a run that is given up."""
    text = f"The worker gave up after the same error {repeated.times} times: {repeated.text}"
    if not _has_jobs(run):
        left = "Remove the cause, then call retry_job"
    elif repeated.is_cancel:
        left = "Its jobs could not be ended and may still run: check their clusters"
    elif request_of(run) is None:
        left = "Its jobs are ended"
    else:
        left = "Its job may still run: retry_job attaches to it again"
    return Outcome(TerminationReason.UNSTARTABLE, f"{text.rstrip('. ')}. {left}.")


def _has_jobs(run: FlowRun) -> bool:
    """Whether a job of the run may be running: its own, or one of a pipeline or a sweep."""
    labels = RunLabels.read(run.labels)
    return request_of(run) is None or labels.launched_attempt == (labels.attempt or 1)


def _kind(error: BaseException) -> str:
    """The identity of an error: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} {where}"
