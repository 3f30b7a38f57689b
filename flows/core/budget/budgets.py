"""Budgets that last: of a work pool or a schedule, for a day, a month or all time."""

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from flows.core.budget.amounts import Amount, Limits
from flows.core.models import Answer, Value
from flows.core.names import slug

POOL: Final = "pool"
_SCHEDULE: Final = "schedule:"


class Period(StrEnum):
    """How long a budget lasts before it begins again; days and months are those of UTC."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def start(self, today: date) -> str:
        """The first day of the period; empty: it has none."""
        if self is Period.TOTAL:
            return ""
        return (today if self is Period.DAY else today.replace(day=1)).isoformat()

    def counts(self, day: str, today: date) -> bool:
        """Whether an attempt that was booked on `day` counts; a later day always does."""
        return day >= self.start(today)


class Budget(Value):
    """What the jobs of a scope may spend in a period."""

    scope: str = Field(default=POOL, description='"pool", or "schedule:NAME".')
    period: Period
    limits: Limits

    @property
    def words(self) -> str:
        """What it is, for people."""
        what = "work pool" if self.scope == POOL else f"schedule {self.scope[len(_SCHEDULE) :]}"
        return f"budget of the {what} in {_PERIOD_WORDS[self.period]}"

    def covers(self, schedule: str | None) -> bool:
        """Whether a job of this schedule counts."""
        return self.scope == POOL or self.scope == scope_of(schedule or "")


_PERIOD_WORDS: Final = {
    Period.DAY: "a day",
    Period.MONTH: "a month",
    Period.TOTAL: "total",
}


class Budgets(Value):
    """All budgets of a work pool."""

    notify_block: str = Field(default="", description="Block of the receiver of warnings.")
    budgets: list[Budget] = Field(default_factory=list[Budget])

    def find(self, scope: str, period: Period) -> Budget | None:
        """Find the budget of a scope and a period."""
        return next((b for b in self.budgets if (b.scope, b.period) == (scope, period)), None)

    def with_budget(self, new: Budget) -> "Budgets":
        """These budgets with one replaced; one without limits is removed."""
        others = [b for b in self.budgets if (b.scope, b.period) != (new.scope, new.period)]
        kept = [*others, new] if new.limits.are_set else others
        kept.sort(key=lambda one: (one.scope, list(Period).index(one.period)))
        return self.model_copy(update={"budgets": kept})


class BudgetChange(Value):
    """A change that a person or a model asks for.

    Attributes:
        scope: Whose budget.
        period: Which one.
        limits: The new limits; a limit that is not given stays.
        removes: Whether to remove the budget.
        may_raise: Whether a person agreed to raise it.
        notify_block: The block of the receiver; None: it stays.
    """

    scope: str = POOL
    period: Period = Period.MONTH
    limits: Limits = Limits()
    removes: bool = False
    may_raise: bool = False
    notify_block: str | None = None

    def applied_to(self, known: Limits) -> Limits:
        """The limits after the change."""
        if self.removes:
            return Limits()
        given = self.limits.model_dump(exclude_none=True)
        return known.model_copy(update=given)


class Spent(Value):
    """Money, GPU time and jobs."""

    cost: float = Field(description="US dollars; of jobs whose price is known.")
    gpu_hours: float
    jobs: int

    @classmethod
    def of(cls, amount: Amount) -> "Spent":
        """An amount, as an answer shows it."""
        return cls(cost=amount.dollars, gpu_hours=amount.gpu_hours, jobs=amount.jobs)

    @property
    def words(self) -> str:
        """The amount, for people."""
        return f"${self.cost:,.2f}, {self.gpu_hours:.4g} GPU-hours, {self.jobs} jobs"


class BudgetRow(Value):
    """One budget, and what is left of it."""

    scope: str
    period: Period
    limits: Limits
    spent: Spent
    reserved: Spent = Field(description="For jobs that have not ended.")
    left: Limits
    percent: float | None = Field(description="Spent, of the limit nearest to its end.")


class BudgetReport(Answer):
    """The budgets of a work pool."""

    pool: str
    budgets: list[BudgetRow]
    still_billed: list[str] = Field(description="Clusters of ended jobs that still cost money.")
    notes: list[str] = Field(default_factory=list[str])


_Sums = Annotated[list[int], Field(min_length=3, max_length=3)]


class ClosedDays(Value):
    """What was spent before a day; it no longer depends on the runs of these days.

    Attributes:
        until: The first day that is not closed; empty: none is closed.
        days: Nanodollars, GPU milliseconds and jobs by day and scope, of this month's days.
        before: The same of all earlier days, by scope.
    """

    kind: Literal["oumi-spent"] = "oumi-spent"
    until: str = ""
    days: dict[str, dict[str, _Sums]] = Field(default_factory=dict[str, dict[str, _Sums]])
    before: dict[str, _Sums] = Field(default_factory=dict[str, _Sums])

    def amount(self, budget: Budget, today: date) -> Amount:
        """What the closed days count for a budget."""
        chosen = [
            by_scope[budget.scope]
            for day, by_scope in self.days.items()
            if budget.period.counts(day, today) and budget.scope in by_scope
        ]
        if budget.period is Period.TOTAL and budget.scope in self.before:
            chosen.append(self.before[budget.scope])
        return add_up(Amount(*one) for one in chosen)


def add_up(amounts: Iterable[Amount]) -> Amount:
    """The sum of amounts."""
    total = Amount()
    for one in amounts:
        total += one
    return total


def scope_of(schedule: str) -> str:
    """The scope of a schedule."""
    return f"{_SCHEDULE}{schedule}"


def budgets_variable(pool: str) -> str:
    """The name of Prefect's variable that holds the budgets of a work pool."""
    return f"oumi_budgets_{slug(pool).replace('-', '_')}"


def spent_variable(pool: str) -> str:
    """The name of the variable that holds what was spent on closed days."""
    return f"oumi_spent_{slug(pool).replace('-', '_')}"
