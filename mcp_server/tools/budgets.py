"""The tool that reads budgets, and lowers them."""

from typing import Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, Field

from flows.core.budget.amounts import LIMIT_MAX, Limits
from flows.core.budget.budgets import BudgetReport, Period
from flows.core.errors import ConfirmationRequired
from mcp_server.services.budgets import BudgetService
from mcp_server.tools.edge import make_tool
from mcp_server.tools.elicitation import can_ask


class RaiseConsent(BaseModel):
    """A person's answer before a budget is raised."""

    raise_it: bool = Field(description="Raise it.")


class BudgetTools:
    """The methods are the tools.

    Args:
        budgets: Use cases of budgets.
    """

    def __init__(self, budgets: BudgetService) -> None:
        self._budgets = budgets

    def tools(self) -> list[Tool]:
        """The tools."""
        return [make_tool(self._get_budget(), title="Budgets", changes=_is_change)]

    def _get_budget(self) -> Any:
        """Make the tool, and its question before a budget is raised."""

        async def ask(
            ctx: Context[Any],
            period: Period,
            cost: float | None,
            gpu_hours: float | None,
            jobs: int | None,
        ) -> Elicit[RaiseConsent] | RaiseConsent:
            limits = Limits(cost=cost, gpu_hours=gpu_hours, jobs=jobs)
            question = ""
            if limits.are_set and can_ask(ctx):
                question = await self._budgets.raises(period, limits)
            return Elicit(question, RaiseConsent) if question else RaiseConsent(raise_it=False)

        async def get_budget(
            *,
            ctx: Context[Any],
            consent: Annotated[ElicitationResult[RaiseConsent], Resolve(ask)],
            period: Annotated[Period, Field(description="In UTC.")] = Period.MONTH,
            cost: Annotated[
                float | None, Field(ge=0, le=LIMIT_MAX, description="US dollars.")
            ] = None,
            gpu_hours: Annotated[
                float | None, Field(ge=0, le=LIMIT_MAX, description="Or hours.")
            ] = None,
            jobs: Annotated[int | None, Field(ge=0, le=LIMIT_MAX, description="Starts.")] = None,
        ) -> BudgetReport:
            """Show budgets and spending; a limit lowers one. Only a person raises."""
            limits = Limits(cost=cost, gpu_hours=gpu_hours, jobs=jobs)
            if not limits.are_set:
                return await self._budgets.read()
            if not isinstance(consent, AcceptedElicitation):
                raise ConfirmationRequired(
                    "The person did not agree to raise the budget, and nothing was changed",
                    "Change nothing unless they ask again",
                )
            return await self._budgets.change(
                period=period, limits=limits, may_raise=consent.data.raise_it
            )

        return get_budget


def _is_change(arguments: dict[str, Any]) -> bool:
    return any(arguments.get(name) is not None for name in ("cost", "gpu_hours", "jobs"))
