"""What a job may spend holds, whatever happens to it and to its worker."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.actions import VariableUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    LogFilter,
    LogFilterFlowRunId,
)

from flows.core.budget.account import Account
from flows.core.budget.amounts import Limits
from flows.core.budget.budgets import Budget, Budgets, Period, budgets_variable, scope_of
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.core.stopwatch import Instant
from flows.job.ledger import Ledger
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

HOUR = 3600.0
PRICE = 3600.0
"""US dollars an hour: a dollar a second."""


async def limit(bench: Bench, *, period: Period = Period.DAY, scope: str = "pool", **limits: Any):
    """Set a budget of the bench's pool."""
    ledger = Ledger(bench.client, bench.pool)
    budget = Budget(scope=scope, period=period, limits=Limits(**limits))
    await ledger.keep_budgets((await ledger.budgets()).with_budget(budget))


def priced(bench: Bench, price: float = PRICE, **labels: Any) -> None:
    """Give the next jobs a price an hour."""
    bench.labels = RunLabels(hourly_price=price, **labels).as_labels()


async def account(bench: Bench, job_id: UUID) -> Account:
    """The account of a job."""
    found = RunLabels.read((await bench.run(job_id)).labels).account
    assert found is not None
    return found


async def log_of(bench: Bench, job_id: UUID) -> str:
    """The job's log in Prefect."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[job_id]))
    return "\n".join(line.message for line in await bench.client.read_logs(wanted))


async def test_a_job_is_warned_at_80_percent_and_ended_at_its_limit(bench: Bench) -> None:
    priced(bench)
    async with bench.worker():
        job_id = await bench.submit("hold", max_cost=1.5)
        state, reason, text = await bench.ending(job_id)
        assert (state, reason) == (JobState.FAILED, TerminationReason.OVER_BUDGET)
        assert text.startswith("Ended at its limit: $1.")
        assert (await bench.launched(job_id)).cancels == 1
        book = await account(bench, job_id)
        assert book.warned_attempt == 1
        (booking,) = book.bookings
        assert booking.ended
        assert booking.meter.before >= 1.5

        async def warned() -> bool:
            return "nears its limit" in await log_of(bench, job_id)

        await eventually(warned, timeout=PATIENCE_SECONDS)


async def test_where_no_price_is_known_the_limit_is_in_hours(bench: Bench) -> None:
    async with bench.worker():
        in_money = await bench.submit("hold", max_cost=1.0)
        state, reason, text = await bench.ending(in_money)
        assert (state, reason) == (JobState.FAILED, TerminationReason.OVER_BUDGET)
        assert "no price is known" in text
        assert "max_gpu_hours" in text
        in_hours = await bench.submit("hold", max_gpu_hours=0.5 / HOUR)
        assert (await bench.ending(in_hours))[1] is TerminationReason.OVER_BUDGET


async def test_a_launch_that_does_not_fit_is_refused_with_the_figures(bench: Bench) -> None:
    priced(bench, 2.0)
    await limit(bench, cost=3.0)
    async with bench.worker():
        fits = await bench.submit("hold", timeout_seconds=HOUR)
        await bench.reaches(fits, JobState.RUNNING)
        job_id = await bench.submit("hold", timeout_seconds=HOUR)
        state, reason, text = await bench.ending(job_id)
        assert (state, reason) == (JobState.FAILED, TerminationReason.OVER_BUDGET)
        assert re.fullmatch(
            r"Not launched\. The budget of the work pool in a day has \$1\.00 left of \$3\.00 "
            r"\(\$0\.\d+ spent, \$2\.00 reserved\), and this attempt may cost \$2\.00\. Declare "
            r"less, wait until some is free, or have a person raise it with `oumi-flows budget "
            r"raise`\.",
            text,
        ), text
        assert len(bench.launcher.jobs) == 1
        less = await bench.submit("exit 0", max_cost=0.9)
        assert (await bench.ending(less))[0] is JobState.SUCCEEDED


async def test_a_job_that_declares_nothing_is_refused_and_told_what_to_declare(
    bench: Bench,
) -> None:
    priced(bench)
    await limit(bench, cost=3.0)
    async with bench.worker():
        _, reason, text = await bench.ending(await bench.submit("hold"))
        assert reason is TerminationReason.OVER_BUDGET
        assert "Declare max_cost, max_gpu_hours or timeout_seconds" in text
    assert not bench.launcher.jobs


async def test_a_budget_in_jobs_counts_them(bench: Bench) -> None:
    await limit(bench, jobs=1)
    async with bench.worker():
        assert (await bench.ending(await bench.submit("exit 0")))[0] is JobState.SUCCEEDED
        _, reason, text = await bench.ending(await bench.submit("exit 0"))
        assert reason is TerminationReason.OVER_BUDGET
        assert "0 of 1 jobs left" in text


async def test_two_workers_that_race_for_the_last_dollar_never_both_win(bench: Bench) -> None:
    priced(bench, 1.0)
    await limit(bench, cost=1.0)
    async with bench.worker(), bench.worker():
        racing = [await bench.submit("hold", timeout_seconds=HOUR) for _ in range(4)]

        async def over() -> list[UUID] | None:
            runs = [await bench.run(job_id) for job_id in racing]
            ended = [run.id for run in runs if run.state and run.state.is_final()]
            return ended if len(ended) == 3 else None

        ended = await eventually(over, timeout=PATIENCE_SECONDS)
        for job_id in ended or []:
            assert (await bench.ending(job_id))[1] is TerminationReason.OVER_BUDGET
        assert len(bench.launcher.jobs) == 1


async def test_a_retry_and_a_restart_forget_nothing(bench: Bench) -> None:
    priced(bench)
    async with bench.worker():
        job_id = await bench.submit("hold", max_cost=100.0)
        await bench.reaches(job_id, JobState.RUNNING)
        (await bench.launched(job_id)).fail(TerminationReason.NONZERO_EXIT, "no")
        await bench.ending(job_id)
        first = (await account(bench, job_id)).bookings[0].meter.before
    async with bench.worker():
        await bench.retry(job_id)
        await bench.launched(job_id, 2)
        await bench.reaches(job_id, JobState.RUNNING)

        async def runs() -> bool:
            last = (await account(bench, job_id)).last
            return last is not None and last.attempt == 2 and last.meter.since is not None

        await eventually(runs, timeout=PATIENCE_SECONDS)
    book = await account(bench, job_id)
    assert [one.attempt for one in book.bookings] == [1, 2]
    assert book.bookings[0].meter.before == first
    assert book.bookings[1].limit_seconds == pytest.approx(100.0 - first, abs=0.01)
    since = book.bookings[1].meter.since
    async with bench.worker():
        (await bench.launched(job_id, 2)).succeed()
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    last = (await account(bench, job_id)).bookings[1]
    assert last.ended
    assert since is not None
    assert last.meter.before > 0


async def test_a_job_without_any_limit_is_only_measured(bench: Bench) -> None:
    priced(bench)
    async with bench.worker():
        job_id = await bench.submit("exit 0", timeout_seconds=HOUR)
        await bench.ending(job_id)
    (booking,) = (await account(bench, job_id)).bookings
    assert booking.ended
    assert booking.limit_seconds is None


async def test_a_budget_of_a_schedule_holds_for_its_jobs_alone(bench: Bench) -> None:
    await limit(bench, scope=scope_of("nightly"), period=Period.MONTH, jobs=0)
    async with bench.worker():
        assert (await bench.ending(await bench.submit("exit 0")))[0] is JobState.SUCCEEDED
        bench.labels = RunLabels(schedule="nightly").as_labels()
        _, reason, _ = await bench.ending(await bench.submit("exit 0"))
        assert reason is TerminationReason.OVER_BUDGET


async def test_a_job_that_began_before_a_budget_ends_when_that_is_used_up(bench: Bench) -> None:
    priced(bench)
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        await bench.reaches(job_id, JobState.RUNNING)
        await limit(bench, cost=0.5)
        worker.look_at_budgets()
        state, reason, text = await bench.ending(job_id)
        assert (state, reason) == (JobState.FAILED, TerminationReason.OVER_BUDGET)
        assert "is used up" in text


async def test_the_own_cluster_of_a_job_at_its_limit_is_stopped(bench: Bench) -> None:
    priced(bench)
    async with bench.worker():
        job_id = await bench.submit(
            "hold", cloud="aws", max_cost=121.0, autostop_minutes=2, timeout_seconds=HOUR
        )
        _, reason, text = await bench.ending(job_id)
        assert reason is TerminationReason.OVER_BUDGET
        assert "was stopped" in text
        assert bench.launcher.stopped
    (booking,) = (await account(bench, job_id)).bookings
    assert booking.idle_seconds == 0.0


async def test_a_cluster_that_stays_up_is_in_the_account_until_it_stops_itself(
    bench: Bench,
) -> None:
    priced(bench)
    async with bench.worker():
        job_id = await bench.submit("exit 0", cloud="aws", autostop_minutes=2)
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    (booking,) = (await account(bench, job_id)).bookings
    assert booking.idle_seconds == 120.0


async def test_the_page_of_the_budgets_is_kept_current(bench: Bench) -> None:
    await limit(bench, jobs=7)
    async with bench.worker() as worker:
        await bench.ending(await bench.submit("exit 0"))
        worker.look_at_budgets()

        async def shown() -> bool:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["oumi-flows-budget"]))
            found = await bench.client.read_artifacts(artifact_filter=wanted, limit=1)
            return bool(found) and "6 jobs" in str(found[0].data)

        await eventually(shown, timeout=PATIENCE_SECONDS)


async def test_a_budget_that_cannot_be_read_lets_nothing_run(bench: Bench) -> None:
    await Ledger(bench.client, bench.pool).keep_budgets(Budgets())
    name = budgets_variable(bench.pool)
    await bench.client.update_variable(VariableUpdate(name=name, value="nonsense"))
    async with bench.worker():
        _, reason, text = await bench.ending(await bench.submit("exit 0"))
        assert reason is TerminationReason.OVER_BUDGET
        assert name in text


async def test_a_launch_that_was_interrupted_reserves_its_part_once(bench: Bench) -> None:
    await limit(bench, gpu_hours=1.0, jobs=1)
    today = datetime.now(UTC).date().isoformat()
    before = Account(pool=bench.pool).begin(1, now=Instant.now(), day=today, limit_seconds=HOUR)
    bench.labels = RunLabels(account=before).as_labels()
    async with bench.worker():
        job_id = await bench.submit("exit 0", timeout_seconds=HOUR)
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
