"""The limits that a job carries: its own, and those of the whole it belongs to."""

from flows.core.budget.amounts import Limits
from flows.core.budget.decision import words_of
from flows.core.errors import InvalidConfig
from flows.core.models import JobRequest


def describe_limits(request: JobRequest, price: float | None) -> str:
    """What a job may spend, as the end of a sentence; empty: it has no limit."""
    limits = own_limits(request)
    if not limits.are_set:
        return ""
    in_hours = ", in hours because no price is known" if price is None else ""
    return f"; at most {words_of(limits)}{in_hours}"


def own_limits(request: JobRequest) -> Limits:
    """The limits of the job itself, over all its attempts."""
    return Limits(cost=request.max_cost, gpu_hours=request.max_gpu_hours)


def with_whole_limits(request: JobRequest, limits: Limits) -> JobRequest:
    """The job of a whole with these limits.

    Raises:
        InvalidConfig: The job does not say how much of them it may use.
    """
    if not limits.are_set:
        return request
    own = (request.max_cost, request.max_gpu_hours, request.timeout_seconds)
    if (limits.cost is not None or limits.gpu_hours is not None) and own == (None, None, None):
        raise InvalidConfig(
            "the whole has a limit, and this job does not say how much of it it may use",
            "Give the job timeout_seconds, which is reserved while it runs",
        )
    update = {
        "whole_cost": limits.cost,
        "whole_gpu_hours": limits.gpu_hours,
        "whole_jobs": limits.jobs,
    }
    return request.model_copy(update=update)


def whole_limits(request: JobRequest) -> Limits:
    """The limits of the whole that a job belongs to."""
    return Limits(
        cost=request.whole_cost, gpu_hours=request.whole_gpu_hours, jobs=request.whole_jobs
    )
