"""What was spent of each budget, and what still costs money, for people."""

from datetime import UTC, datetime
from typing import Final

from flows.core.budget.amounts import Amount, Limits, hours_words, money_words
from flows.core.budget.budgets import (
    Budget,
    BudgetReport,
    BudgetRow,
    Budgets,
    Period,
    Spent,
)
from flows.core.budget.decision import words_of
from flows.core.run_labels import RunLabels
from flows.core.stopwatch import Instant
from flows.job.ledger import Books, Entry, day_of

_SHOWN: Final = 10
_ROWS: Final = 25
_GPU_NOTE: Final = (
    "A job without GPUs counts as one GPU. Jobs whose price is not known, such as those of this "
    "machine and of Slurm, count in hours only."
)


def report_of(pool: str, budgets: Budgets, books: Books, now: Instant) -> BudgetReport:
    """The report on all budgets of a pool, with the day and the month even without a limit."""
    wanted = list(budgets.budgets)
    for period in (Period.DAY, Period.MONTH):
        if budgets.find("pool", period) is None:
            wanted.append(Budget(period=period, limits=Limits()))
    rows = [_row(budget, books, now) for budget in wanted]
    billed = [line for entry in books.entries if (line := _still_billed(entry, now))]
    return BudgetReport(
        summary=_summarize(rows, day_of(now).isoformat()),
        pool=pool,
        budgets=rows[:_ROWS],
        still_billed=billed[:_SHOWN],
        notes=[_GPU_NOTE],
    )


def page_of(report: BudgetReport) -> str:
    """The report as Markdown, for the Prefect UI."""
    lines = [
        f"# Budgets of {report.pool}",
        "",
        "| budget | limit | spent | reserved | left |",
        "|---|---|---|---|---|",
        *(
            f"| {row.scope}, {row.period} | {words_of(row.limits)} | {row.spent.words} | "
            f"{row.reserved.words} | {words_of(row.left) if row.limits.are_set else ''} |"
            for row in report.budgets
        ),
        "",
        *report.notes,
    ]
    if report.still_billed:
        lines += ["", "Still billed:", "", *(f"- {one}" for one in report.still_billed)]
    return "\n".join(lines)


def describe(budget: Budget, spent: Amount) -> str:
    """What was spent of a budget."""
    parts: list[str] = []
    if budget.limits.cost is not None:
        parts.append(f"{money_words(spent.nanodollars)} of ${budget.limits.cost:,.2f}")
    if budget.limits.gpu_hours is not None:
        parts.append(f"{hours_words(spent.gpu_ms)} of {budget.limits.gpu_hours:g}")
    return ", ".join(parts)


def _row(budget: Budget, books: Books, now: Instant) -> BudgetRow:
    used = books.used(budget, now)
    limits = budget.limits
    return BudgetRow(
        scope=budget.scope,
        period=budget.period,
        limits=limits,
        spent=Spent.of(used.spent),
        reserved=Spent.of(used.reserved),
        left=limits.left(used.total),
        percent=round(100 * limits.share(used.spent), 1) if limits.are_set else None,
    )


def _summarize(rows: list[BudgetRow], today: str) -> str:
    limited = [row for row in rows if row.limits.are_set]
    if not limited:
        row = next(row for row in rows if row.period is Period.MONTH)
        return f"No budget is set. Spent this month: {row.spent.words}."
    parts = [
        f"{row.scope} {row.period}: {row.spent.words} spent, {words_of(row.left)} left of "
        f"{words_of(row.limits)}"
        for row in limited
    ]
    return f"{today}: " + "; ".join(parts) + "."


def _still_billed(entry: Entry, now: Instant) -> str:
    """The cluster of an ended job that is idle until it stops itself; empty: none."""
    last = entry.account.last
    if last is None or entry.ended_at is None or not last.idle_seconds:
        return ""
    ends = entry.ended_at.wall + last.idle_seconds
    if ends <= now.wall:
        return ""
    at = datetime.fromtimestamp(ends, UTC)
    cluster = RunLabels.read(entry.run.labels).cluster_name or "its cluster"
    price = f"${entry.account.price:g} an hour" if entry.account.price else "price not known"
    return (
        f"{cluster}, after {entry.run.name}: idle until {at:%Y-%m-%d %H:%M} UTC, {price}; its "
        "disks until down_cluster. Counted as spent."
    )
