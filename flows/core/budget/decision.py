"""Whether a launch fits into what is left, and how long the job may run."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from flows.core.budget.account import Used
from flows.core.budget.amounts import Amount, Limits, Rate, hours_words, money_words

WARN_SHARE: Final = 0.8
"""The share of a limit at which a job, or a budget, warns."""
START_SECONDS: Final = 900.0
"""Reserved, besides the time limit, for a cluster that is billed while it starts."""
RAISE: Final = "or have a person raise it with `oumi-flows budget raise`"


class Envelope(NamedTuple):
    """One limit in force for a launch.

    Attributes:
        name: What it is, for people.
        limits: The limits.
        used: What other jobs, and earlier attempts of this one, spent and reserve.
        how_to_raise: What to do if it is too small.
    """

    name: str
    limits: Limits
    used: Used
    how_to_raise: str = RAISE


class Ask(NamedTuple):
    """What an attempt may use at most.

    Attributes:
        rate: What an hour counts.
        seconds: How long it may run; None: without a limit.
        idle_seconds: How long its cluster is billed afterwards.
        jobs: 1 for a job's first attempt, else 0.
        costs_money: Whether its machine is rented, so that it costs even if no price is known.
    """

    rate: Rate
    seconds: float | None
    idle_seconds: float = 0.0
    jobs: int = 1
    costs_money: bool = False

    @property
    def amount(self) -> Amount:
        """The most it may use; without a time limit only the job itself counts."""
        most = self.rate.amount(self.seconds or 0.0, idle_seconds=self.idle_seconds)
        return most + Amount(jobs=self.jobs)


def seconds_allowed(
    own: Limits, used: Amount, rate: Rate, *, timeout_seconds: float | None, idle_seconds: float
) -> float | None:
    """How long an attempt may run by the limits of its own job; None: they do not say.

    Args:
        own: The limits of the job, over all its attempts.
        used: What its earlier attempts used.
        rate: What an hour counts.
        timeout_seconds: The time limit of the attempt.
        idle_seconds: How long its cluster is billed afterwards.
    """
    left = own.left(used)
    choices = [timeout_seconds] if timeout_seconds is not None else []
    if left.gpu_hours is not None:
        choices.append(left.gpu_hours * 3600 / rate.gpus)
    if left.cost is not None and rate.price:
        choices.append(left.cost * 3600 / rate.price - idle_seconds)
    return max(0.0, min(choices)) if choices else None


def find_refusal(ask: Ask, envelopes: Iterable[Envelope]) -> str | None:
    """Say why an attempt may not be launched, with the figures; None: it may."""
    for one in envelopes:
        if why := _refuse_undeclared(ask, one) or _refuse_too_much(ask, one):
            return why
    return None


def _refuse_undeclared(ask: Ask, envelope: Envelope) -> str | None:
    limits = envelope.limits
    in_hours = limits.gpu_hours is not None
    in_money = limits.cost is not None and ask.rate.price is not None
    if limits.cost is not None and ask.rate.price is None and ask.costs_money and not in_hours:
        return (
            f"The {envelope.name} is in US dollars, and no price is known for this machine. "
            "Set a limit in GPU-hours beside it, which then holds for such jobs"
        )
    if ask.seconds is None and (in_hours or in_money):
        say = "max_cost, max_gpu_hours or timeout_seconds"
        return (
            f"The {envelope.name} is in force, and the job does not say how much it may use. "
            f"Declare {say if in_money else say.removeprefix('max_cost, ')}"
        )
    return None


def _refuse_too_much(ask: Ask, envelope: Envelope) -> str | None:
    amount, used, limits = ask.amount, envelope.used, envelope.limits
    nano, gpu_ms, jobs = limits.in_units
    if nano is not None and amount.nanodollars > nano - used.total.nanodollars:
        figures = _figures(used, limits, "money")
        needs = f"this attempt may cost {money_words(amount.nanodollars)}"
    elif gpu_ms is not None and amount.gpu_ms > gpu_ms - used.total.gpu_ms:
        figures = _figures(used, limits, "hours")
        needs = f"this attempt may take {hours_words(amount.gpu_ms)}"
    elif jobs is not None and amount.jobs > jobs - used.total.jobs:
        figures, needs = _figures(used, limits, "jobs"), "this is one more"
    else:
        return None
    return (
        f"The {envelope.name} has {figures}, and {needs}. "
        f"Declare less, wait until some is free, {envelope.how_to_raise}"
    )


def _figures(used: Used, limits: Limits, unit: str) -> str:
    left = limits.left(used.total)
    if unit == "jobs":
        return f"{left.jobs} of {limits.jobs} jobs left"
    if unit == "hours":
        of, free = round((limits.gpu_hours or 0) * 3.6e6), round((left.gpu_hours or 0) * 3.6e6)
        return (
            f"{hours_words(free)} left of {hours_words(of)} ({hours_words(used.spent.gpu_ms)} "
            f"spent, {hours_words(used.reserved.gpu_ms)} reserved)"
        )
    cost, free = round((limits.cost or 0) * 1e9), round((left.cost or 0) * 1e9)
    return (
        f"{money_words(free)} left of {money_words(cost)} "
        f"({money_words(used.spent.nanodollars)} spent, "
        f"{money_words(used.reserved.nanodollars)} reserved)"
    )


def words_of(limits: Limits) -> str:
    """Limits for people."""
    nano, gpu_ms, jobs = limits.in_units
    parts: Sequence[str] = [
        *([] if nano is None else [money_words(nano)]),
        *([] if gpu_ms is None else [hours_words(gpu_ms)]),
        *([] if jobs is None else [f"{jobs} jobs"]),
    ]
    return ", ".join(parts) or "no limit"
