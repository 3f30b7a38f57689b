"""Reads the budgets of this worker's pool, and changes them."""

from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client

from flows.answers.answering import answering
from flows.core import names
from flows.core.budget.amounts import Limits
from flows.core.budget.budgets import Budget, BudgetChange, BudgetReport, Budgets, Period
from flows.core.budget.changes import apply_change
from flows.core.stopwatch import Instant
from flows.job.ledger import Ledger, day_of
from flows.job.run_record import RunRecord
from flows.job.runtime import current_runtime
from flows.job.spending_report import report_of


@flow(
    name=names.BUDGET_FLOW,
    persist_result=False,
    description="Read the budgets of a work pool, or change one.",
)
@answering
async def budget(change: BudgetChange | None = None) -> BudgetReport:
    """Read the budgets, after a change if one is asked for.

    Args:
        change: The change; None: none.

    Raises:
        ConfirmationRequired: It would raise a budget, and no person agreed.
    """
    pool = RunRecord.current().run.work_pool_name or current_runtime().settings.work_pool
    async with get_client() as client:
        ledger = Ledger(client, pool)
        budgets = await ledger.budgets()
        if change is not None:
            budgets = apply_change(change, budgets)
            await ledger.keep_budgets(budgets)
            current_runtime().budgets_changed.set()
        return await _report(client, pool, budgets)


async def _report(client: PrefectClient, pool: str, budgets: Budgets) -> BudgetReport:
    now = Instant.now()
    today = day_of(now)
    shown = [*budgets.budgets, Budget(period=Period.MONTH, limits=Limits())]
    books = await Ledger(client, pool).books(shown, today=today)
    return report_of(pool, budgets, books, now)
