"""Budgets of a work pool: read them, lower them, and raise them as a person asks."""

from typing import Final

from flows.core import names
from flows.core.budget.amounts import Limits
from flows.core.budget.budgets import POOL, BudgetChange, BudgetReport, Period, scope_of
from flows.core.budget.decision import words_of
from flows.core.errors import InvalidArgument
from mcp_server.services.jobs.notifications import Notifications
from mcp_server.services.worker_calls import WorkerCalls

_SECONDS: Final = 60.0


class BudgetService:
    """Asks the worker, which enforces the budgets, and changes them through it.

    Args:
        calls: How to ask the worker.
        notifications: Sets up the receiver of warnings.
        pool: The work pool.
    """

    def __init__(self, calls: WorkerCalls, notifications: Notifications, *, pool: str) -> None:
        self._calls = calls
        self._notifications = notifications
        self._pool = pool

    async def read(self) -> BudgetReport:
        """Read the budgets, what was spent, and what is left."""
        return await self._ask(None)

    async def change(
        self,
        *,
        period: Period = Period.MONTH,
        limits: Limits,
        schedule: str = "",
        removes: bool = False,
        may_raise: bool = False,
        notify: str | None = None,
    ) -> BudgetReport:
        """Set limits of one budget; a limit that is not given stays.

        Args:
            period: Which budget.
            limits: The new limits.
            schedule: The schedule whose budget it is; empty: that of the pool.
            removes: Whether to remove it.
            may_raise: Whether a person agreed to raise it.
            notify: Receiver of warnings and of a daily digest; None: it stays.

        Raises:
            ConfirmationRequired: It would raise the budget, and no person agreed.
            InvalidArgument: Nothing is changed, or the receiver is none.
        """
        if not (limits.are_set or removes or notify is not None):
            raise InvalidArgument("no limit was given", "Give one in dollars, GPU-hours or jobs")
        block = None
        if notify is not None:
            block = await self._notifications.watch_budgets(notify, self._pool)
        return await self._ask(
            BudgetChange(
                scope=scope_of(schedule) if schedule else POOL,
                period=period,
                limits=limits,
                removes=removes,
                may_raise=may_raise,
                notify_block=block,
            )
        )

    async def raises(self, period: Period, limits: Limits, *, schedule: str = "") -> str:
        """Describe how new limits raise a budget; empty: they do not."""
        scope = scope_of(schedule) if schedule else POOL
        rows = (await self.read()).budgets
        row = next((row for row in rows if (row.scope, row.period) == (scope, period)), None)
        before = row.limits if row else Limits()
        change = BudgetChange(limits=limits)
        after = change.applied_to(before)
        if not after.exceeds(before):
            return ""
        return f"Raise the {period} budget of {scope} from {words_of(before)} to {words_of(after)}?"

    async def _ask(self, change: BudgetChange | None) -> BudgetReport:
        asked = change.model_dump(mode="json") if change else None
        return await self._calls.call(
            names.BUDGET_FLOW, {"change": asked}, BudgetReport, timeout_seconds=_SECONDS
        )
