"""The command that shows budgets, and sets them."""

from collections.abc import Callable
from typing import Annotated, Final

import click
import typer
from rich.text import Text

from flows.core.budget.amounts import Limits
from flows.core.budget.budgets import BudgetReport, Period
from flows.core.budget.decision import words_of
from flows.core.errors import ConfirmationRequired
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, agrees
from mcp_server.cli.output import Output

_ACTIONS: Final = ("show", "set", "raise", "remove")


class BudgetCommand(Commands):
    """The methods are the commands."""

    panel = "Jobs"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"budget": self.budget}

    def budget(
        self,
        *,
        action: Annotated[
            str,
            typer.Argument(
                click_type=click.Choice(_ACTIONS),
                metavar="[ACTION]",
                help="show, set (a new limit, or a lower one), raise or remove.",
                show_default=False,
            ),
        ] = "show",
        period: Annotated[
            Period,
            typer.Option("--period", metavar="PERIOD", help="day, month (UTC) or total."),
        ] = Period.MONTH,
        cost: Annotated[
            float | None, typer.Option("--cost", metavar="DOLLARS", min=0, help="US dollars.")
        ] = None,
        gpu_hours: Annotated[
            float | None,
            typer.Option(
                "--gpu-hours", metavar="HOURS", min=0, help="A job without GPUs counts as one."
            ),
        ] = None,
        jobs: Annotated[
            int | None, typer.Option("--jobs", metavar="COUNT", min=0, help="Number of jobs.")
        ] = None,
        schedule: Annotated[
            str,
            typer.Option(
                "--schedule", metavar="NAME", help="Of this schedule, not of the work pool."
            ),
        ] = "",
        notify: Annotated[
            str | None,
            typer.Option(
                "--notify",
                metavar="RECEIVER",
                help="Receiver of warnings and of a daily digest: a URL, or a Prefect block, "
                "type/name.",
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> Exit:
        """Show what jobs may spend and have spent, or set a limit. Raising one needs a person."""
        if action == "show":
            report = self._backend.use(lambda services: services.budgets.read())
            return self._write(report, _show, as_json=as_json)
        if action != "set":
            self._ask(action, period)
        limits = Limits(cost=cost, gpu_hours=gpu_hours, jobs=jobs)
        report: BudgetReport = self._backend.use(
            lambda services: services.budgets.change(
                period=period,
                limits=limits,
                schedule=schedule,
                removes=action == "remove",
                may_raise=action != "set",
                notify=notify,
            )
        )
        return self._write(report, _show, as_json=as_json)

    def _ask(self, action: str, period: Period) -> None:
        """Ask the person: a program, or a model, has no terminal to answer at."""
        if not agrees(f"{action.capitalize()} the budget, period {period}?"):
            raise ConfirmationRequired(
                "No budget was changed", "A person confirms this at a terminal"
            )


def _show(report: BudgetReport, output: Output) -> None:
    """Show each budget with what is left of it."""
    rows = [
        [
            Text(f"{row.scope}, {row.period}"),
            Text(words_of(row.limits)),
            Text(row.spent.words),
            Text(row.reserved.words),
            Text(words_of(row.left) if row.limits.are_set else ""),
        ]
        for row in report.budgets
    ]
    output.table(["BUDGET", "LIMIT", "SPENT", "RESERVED", "LEFT"], rows)
    for line in (*(f"Still billed: {one}" for one in report.still_billed), *report.notes):
        output.note(line)
