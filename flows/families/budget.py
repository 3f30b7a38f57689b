"""What is left of the limits of a whole sweep, before another of its jobs starts."""

from collections.abc import Awaitable, Callable, Sequence

from prefect.client.schemas.objects import FlowRun

from flows.core.budget.account import Used
from flows.core.budget.amounts import Amount, Rate
from flows.core.budget.decision import Ask, Envelope, find_refusal, seconds_allowed
from flows.core.budget.rates import costs_money, idle_seconds
from flows.core.budget.whole import own_limits, whole_limits
from flows.core.models import JobRequest
from flows.core.stopwatch import Instant
from flows.job.ledger import read_entries
from flows.job.prefect_calls import state_of


class WholeBudget:
    """The limits of a whole, and what its jobs used of them.

    Each job also reserves its part itself before its launch. This look keeps the whole from
    starting jobs that would only be refused.

    Args:
        request: The job that all share.
    """

    def __init__(self, request: JobRequest) -> None:
        self._request = request
        self._limits = whole_limits(request)
        self._rate: Rate | None = None

    async def why_full(
        self, runs: Sequence[FlowRun], *, rate: Callable[[JobRequest], Awaitable[Rate]]
    ) -> str | None:
        """Say why no other job fits into what is left; None: one does.

        Args:
            runs: The jobs there are.
            rate: Says what an hour of the job counts.
        """
        if not self._limits.are_set:
            return None
        if self._rate is None:
            self._rate = await rate(self._request)
        ask = self._ask(self._rate)
        now, used = Instant.now(), Used()
        entries = {entry.run.id: entry for entry in read_entries(runs)}
        for run in runs:
            if entry := entries.get(run.id):
                used = used.plus(entry.used(now))
            elif not state_of(run).is_terminal:  # it has not reserved its part yet
                used = used.plus(Used(reserved=ask.amount))
        envelope = Envelope("limit of the whole", self._limits, used, "or run it with a higher one")
        return find_refusal(ask, [envelope])

    def _ask(self, rate: Rate) -> Ask:
        request = self._request
        own = own_limits(request)
        idle = idle_seconds(request)
        seconds = seconds_allowed(
            own, Amount(), rate, timeout_seconds=request.timeout_seconds, idle_seconds=idle
        )
        return Ask(rate, seconds, idle, costs_money=costs_money(request))
