"""A worker that keeps budgets in memory, and answers questions about them."""

from collections.abc import Mapping
from typing import Any, cast

from flows.core.budget.budgets import BudgetChange, Budgets, ClosedDays
from flows.core.budget.changes import apply_change
from flows.core.stopwatch import Instant
from flows.job.ledger import Books
from flows.job.spending_report import report_of
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.budgets import BudgetService
from mcp_server.services.jobs.notifications import Notifications
from mcp_server.services.worker_calls import WorkerCalls


class BudgetWorker(WorkerCalls):
    """Nothing was spent yet."""

    def __init__(self) -> None:
        super().__init__(cast("PrefectGateway", None))
        self.budgets = Budgets()

    async def call(self, flow: str, parameters: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        if parameters["change"] is not None:
            change = BudgetChange.model_validate(parameters["change"])
            self.budgets = apply_change(change, self.budgets)
        return report_of("oumi", self.budgets, Books(ClosedDays(), []), Instant.now())


def budget_service(worker: BudgetWorker) -> BudgetService:
    """The use cases, on this worker."""
    notifications = Notifications(cast("PrefectGateway", None))
    return BudgetService(worker, notifications, pool="oumi")
