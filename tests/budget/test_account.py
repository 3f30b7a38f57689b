"""The account of spending is right to the cent whatever happens, and no limit is exceeded."""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from flows.core.budget.account import Account, Used
from flows.core.budget.amounts import Limits
from flows.core.budget.decision import Ask, Envelope, find_refusal, seconds_allowed
from flows.core.run_labels import RunLabels
from flows.core.stopwatch import Instant

PRICES = (None, 0.01, 0.37, 1.0, 2.4999, 98.32)
LIMIT = Limits(cost=10.0, gpu_hours=40.0, jobs=25)
HISTORIES = 150
MANY_HISTORIES = 10_000


@dataclass
class Job:
    """A job, and what it really used, measured apart from its account."""

    price: float | None
    gpus: int
    timeout: float
    labels: dict[str, object] = field(default_factory=dict[str, object])
    attempt: int = 0
    is_running: bool = False
    ended_at: Instant | None = None
    used: Fraction = Fraction(0)
    """Milliseconds."""
    before: Fraction = Fraction(0)
    """Those of its earlier attempts."""
    most: int = 0
    """Attempts that were launched."""

    @property
    def account(self) -> Account:
        """The account as every worker reads it: from the labels of the run."""
        found = RunLabels.read(self.labels).account
        return found or Account(price=self.price, gpus=self.gpus, pool="oumi")

    def keep(self, account: Account) -> None:
        """Write the account, as a worker does."""
        self.labels = {**self.labels, **RunLabels(account=account).as_labels()}

    @property
    def cost(self) -> Fraction:
        """What it really cost, in dollars."""
        return self.used * Fraction(str(self.price or 0)) / 3_600_000


class Histories(RuleBasedStateMachine):
    """Jobs of two workers on one pool; clocks, restarts, preemptions and retries as they come."""

    count = 0
    launches = 0
    refusals = 0
    races = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self.jobs: list[Job] = []
        self.boot = 1
        self.monotonic = 1000.0
        self.wall = datetime(2026, 12, 1, tzinfo=UTC).timestamp()

    @property
    def now(self) -> Instant:
        return Instant(f"boot-{self.boot}", self.monotonic, self.wall)

    def used(self, *, but: Job | None = None) -> Used:
        total = Used()
        for job in self.jobs:
            if job is not but:
                total = total.plus(job.account.used(self.now, ended_at=job.ended_at))
        return total

    def refuse(self, job: Job) -> str | None:
        """The look of a worker before, and after, it wrote the reservation of a job."""
        earlier = job.account.before(job.attempt + 1, self.now)
        ask = Ask(earlier.rate, self.seconds(job), jobs=int(not earlier.bookings))
        used = self.used(but=job).plus(earlier.used(self.now))
        return find_refusal(ask, [Envelope("budget", LIMIT, used)])

    def seconds(self, job: Job) -> float | None:
        earlier = job.account.before(job.attempt + 1, self.now)
        spent = earlier.used(self.now).spent
        return seconds_allowed(
            Limits(), spent, earlier.rate, timeout_seconds=job.timeout, idle_seconds=0.0
        )

    def reserve(self, job: Job) -> None:
        day = datetime.fromtimestamp(self.wall, UTC).date().isoformat()
        seconds = self.seconds(job)
        job.keep(job.account.begin(job.attempt + 1, now=self.now, day=day, limit_seconds=seconds))

    def withdraw(self, job: Job) -> None:
        job.keep(job.account.before(job.attempt + 1, self.now))
        type(self).refusals += 1

    def start(self, job: Job) -> None:
        type(self).launches += 1
        job.attempt += 1
        job.most += 1
        job.keep(job.account.run(self.now))
        job.is_running = True
        job.ended_at = None

    @rule(
        price=st.sampled_from(PRICES),
        gpus=st.integers(1, 8),
        timeout=st.floats(1, 90_000).map(lambda one: round(one, 1)),
    )
    def submit(self, price: float | None, gpus: int, timeout: float) -> None:
        job = Job(price, gpus, timeout)
        self.jobs.append(job)
        self.launch(job)

    def launch(self, job: Job) -> None:
        if self.refuse(job) is not None:
            return
        self.reserve(job)
        if self.refuse(job) is None:
            self.start(job)
        else:
            self.withdraw(job)

    @rule(order=st.permutations(["a", "b"] * 3), timeout=st.floats(60, 90_000))
    def two_workers_race(self, order: list[str], timeout: float) -> None:
        """Two workers launch at once: their three steps come in any order, without turns."""
        type(self).races += 1
        racing = {name: Job(2.4999, 2, round(timeout, 1)) for name in "ab"}
        self.jobs += racing.values()
        steps = dict.fromkeys("ab", 0)
        may = dict.fromkeys("ab", True)
        for name in order:
            job, step = racing[name], steps[name]
            steps[name] += 1
            if not may[name]:
                continue
            if step == 1:
                self.reserve(job)
            elif self.refuse(job) is not None:
                may[name] = False
                if step == 2:
                    self.withdraw(job)
            elif step == 2:
                self.start(job)

    @rule(seconds=st.floats(0.001, 40_000).map(lambda one: round(one, 3)))
    def time_passes(self, seconds: float) -> None:
        """Every running job is ended by its worker at its limit."""
        self.monotonic = round(self.monotonic + seconds, 3)
        self.wall = round(self.wall + seconds, 3)
        for job in self.jobs:
            last = job.account.last
            if not job.is_running or last is None or last.limit_seconds is None:
                continue
            left = Fraction(str(last.limit_seconds)) * 1000 - (job.used - job.before)
            job.used += min(Fraction(str(seconds)) * 1000, left)
            if Fraction(str(seconds)) * 1000 >= left:
                moment = self.monotonic - float((Fraction(str(seconds)) * 1000 - left) / 1000)
                self.end(job, Instant(f"boot-{self.boot}", round(moment, 3), self.wall))

    def end(self, job: Job, at: Instant) -> None:
        job.keep(job.account.end(at, is_billed_idle=False))
        job.is_running = False
        job.before = job.used
        job.ended_at = at

    @rule(seconds=st.floats(-1e6, 1e6))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.wall = round(self.wall + seconds, 3)

    @precondition(lambda self: any(job.is_running for job in self.jobs))
    @rule(data=st.data())
    def a_worker_restarts(self, data: st.DataObject) -> None:
        """It adopts the job: the same code runs again on what the run has."""
        job = data.draw(st.sampled_from([job for job in self.jobs if job.is_running]))
        job.keep(job.account.run(self.now))
        job.keep(job.account.renew(self.now))

    @rule(monotonic=st.floats(1, 1e6))
    def another_machine_takes_over(self, monotonic: float) -> None:
        """Its worker adopts all jobs; the last write of the first one is recent."""
        running = [job for job in self.jobs if job.is_running]
        for job in running:
            job.keep(job.account.renew(self.now))
        self.boot += 1
        self.monotonic = round(monotonic, 3)
        for job in running:
            job.keep(job.account.run(self.now))

    @precondition(lambda self: any(job.is_running for job in self.jobs))
    @rule(data=st.data(), twice=st.booleans())
    def a_job_ends_or_is_preempted(self, data: st.DataObject, *, twice: bool) -> None:
        job = data.draw(st.sampled_from([job for job in self.jobs if job.is_running]))
        self.end(job, self.now)
        if twice:  # a write that is repeated, or an adoption after the end
            self.end(job, self.now)

    @precondition(lambda self: any(job.most and not job.is_running for job in self.jobs))
    @rule(data=st.data())
    def a_job_is_retried(self, data: st.DataObject) -> None:
        over = [job for job in self.jobs if job.most and not job.is_running]
        job = data.draw(st.sampled_from(over))
        job.ended_at = None
        self.launch(job)

    @invariant()
    def the_account_is_right_to_the_cent(self) -> None:
        spent = self.used().spent
        cost = sum((job.cost for job in self.jobs), Fraction(0))
        assert abs(Fraction(spent.nanodollars, 10**9) - cost) < Fraction(1, 200)
        assert round(spent.nanodollars / 1e7) == round(float(cost) * 100) or (
            abs(float(cost) * 100 % 1 - 0.5) < 1e-4
        )
        assert spent.gpu_ms == sum(round(job.used) * job.gpus for job in self.jobs)
        assert spent.jobs == sum(1 for job in self.jobs if job.most)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        nano, gpu_ms, jobs = LIMIT.in_units
        total = self.used().total
        assert nano is not None
        assert gpu_ms is not None
        assert jobs is not None
        assert total.nanodollars <= nano
        assert total.gpu_ms <= gpu_ms
        assert total.jobs <= jobs


def _run(count: int) -> None:
    Histories.count = Histories.launches = Histories.refusals = Histories.races = 0
    run_machine(
        Histories,
        settings=settings(
            max_examples=count,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            print_blob=True,
        ),
    )
    print(
        f"{Histories.count} histories: {Histories.launches} launches, "
        f"{Histories.races} races of two workers, {Histories.refusals} reservations withdrawn"
    )


def test_the_account_is_right_and_the_limits_hold_in_every_history() -> None:
    _run(HISTORIES)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_account_is_right_and_the_limits_hold_in_ten_thousand_histories() -> None:
    _run(int(os.environ.get("BUDGET_HISTORIES", MANY_HISTORIES)))
