"""After which ends a job is retried, and how soon."""

from enum import StrEnum
from typing import Final

from flows.core.models import JobRequest, RetryCause
from flows.core.states import TerminationReason

_DELAY_MAX_SECONDS: Final = 600.0


class RetryRule(StrEnum):
    """Whether a job with attempts left gets another one."""

    ALWAYS = "always"
    WHEN_ASKED = "when asked for with retry_on"
    NEVER = "never"


RETRY_RULES: Final[dict[TerminationReason, RetryRule]] = {
    TerminationReason.PREEMPTED: RetryRule.ALWAYS,
    TerminationReason.LOST: RetryRule.ALWAYS,
    TerminationReason.LAUNCH_FAILED: RetryRule.ALWAYS,
    TerminationReason.KILLED: RetryRule.ALWAYS,
    TerminationReason.NONZERO_EXIT: RetryRule.WHEN_ASKED,
    TerminationReason.TIMED_OUT: RetryRule.WHEN_ASKED,
    # The same config on the same machine ends the same way.
    TerminationReason.INVALID_CONFIG: RetryRule.NEVER,
    TerminationReason.SETUP_FAILED: RetryRule.NEVER,
    TerminationReason.OUT_OF_MEMORY: RetryRule.NEVER,
    TerminationReason.DIVERGED: RetryRule.NEVER,
    TerminationReason.OVER_BUDGET: RetryRule.NEVER,
    # It was tried several times already.
    TerminationReason.UNSTARTABLE: RetryRule.NEVER,
    # The cancel was requested.
    TerminationReason.USER_CANCELLED: RetryRule.NEVER,
    TerminationReason.CANCELLED_EXTERNALLY: RetryRule.NEVER,
    TerminationReason.COMPLETED: RetryRule.NEVER,
    # The schedule's next run is its next chance.
    TerminationReason.SKIPPED: RetryRule.NEVER,
}


def retry_delay_seconds(
    request: JobRequest, *, attempt: int, reason: TerminationReason, first_seconds: float
) -> float | None:
    """Seconds to wait before the next attempt; None: the job is not retried.

    Args:
        request: Says how many retries there may be, and after which ends.
        attempt: The attempt that ended, from 1.
        reason: Why it ended.
        first_seconds: The wait after the first attempt; it doubles with each later one.
    """
    retried = RETRY_RULES[reason]
    asked = retried is RetryRule.WHEN_ASKED and RetryCause(reason) in request.retry_on
    if attempt > request.max_retries or not (retried is RetryRule.ALWAYS or asked):
        return None
    return min(first_seconds * 2 ** (attempt - 1), _DELAY_MAX_SECONDS)
