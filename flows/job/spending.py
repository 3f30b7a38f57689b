"""What one job spends: its reservation before a launch, its time, its end at the limit."""

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any, Final, cast

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core import names
from flows.core.budget.account import Account, Used
from flows.core.budget.amounts import Amount, hours_words, money_words
from flows.core.budget.budgets import Budgets, Period
from flows.core.budget.decision import (
    START_SECONDS,
    WARN_SHARE,
    Ask,
    Envelope,
    find_refusal,
    seconds_allowed,
)
from flows.core.budget.rates import costs_money, idle_seconds, rate_of
from flows.core.budget.whole import own_limits, whole_limits
from flows.core.configs.clouds import kind_of
from flows.core.configs.processes import ALL
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import OumiFlowsError
from flows.core.models import JobHandle, JobRequest
from flows.core.run_labels import RunLabels
from flows.core.states import TerminationReason
from flows.core.stopwatch import Instant
from flows.job.ledger import Ledger, day_of
from flows.job.outcome import Outcome
from flows.job.reporting import Report
from flows.job.run_event import send_run_event
from flows.job.run_record import RunRecord
from flows.job.runtime import Runtime
from flows.launcher.local.gpus import read_gpus

_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.5
_KEEP_SECONDS: Final = 60.0
_OWN: Final = "limit of the job (max_cost, max_gpu_hours)"
_START_OVER: Final = "or run it again with from_job and a higher limit"


class Spending:
    """The account of one job, and what follows from it.

    Args:
        request: Its limits.
        record: Its run, which holds the account.
        runtime: The launcher, and what the worker's look at the budgets found.
        report: Tells people.
        now: The clocks.
    """

    def __init__(
        self,
        request: JobRequest,
        record: RunRecord,
        runtime: Runtime,
        report: Report,
        *,
        now: Callable[[], Instant] = Instant.now,
    ) -> None:
        self._request = request
        self._record = record
        self._runtime = runtime
        self._report = report
        self._now = now
        self._pool = record.run.work_pool_name or runtime.settings.work_pool
        self._ledger = Ledger(record.client, self._pool)
        kind = kind_of(request.cloud)
        self._is_billed_at_launch = kind.keeps_clusters
        self._own = own_limits(request)
        self._whole = whole_limits(request)

    async def reserve(self, attempt: int, job_config: str) -> Outcome | None:
        """Reserve what an attempt may use; return its outcome if that is too much.

        Args:
            attempt: Its number.
            job_config: What is launched, as YAML.
        """
        account = await asyncio.to_thread(self._account, job_config)
        try:
            budgets = await self._ledger.budgets()
        except OumiFlowsError as error:
            return Outcome(TerminationReason.OVER_BUDGET, error.sentences)
        begun = self._begin(account, attempt)
        booked = begun.last
        # A launch that was interrupted has reserved its part already.
        earlier = account.before(attempt, self._now())
        ask = Ask(
            account.rate,
            booked.limit_seconds if booked else None,
            booked.idle_seconds if booked else 0.0,
            jobs=int(not earlier.bookings),
            costs_money=costs_money(self._request),
        )
        spent = earlier.used(self._now()).spent
        if self._own.are_set and (why := self._refuse_own(ask, spent)):
            return Outcome(TerminationReason.OVER_BUDGET, why)
        covering = [b for b in budgets.budgets if b.covers(self._record.labels.schedule)]
        if not (covering or (self._whole.are_set and self._record.labels.part_of)):
            if not self._own.are_set:
                begun = begun.without_limit()
            self._record.note(RunLabels(account=self._start_meter(begun)))
            return None
        budgets = budgets.model_copy(update={"budgets": covering})
        return await self._reserve(earlier, begun, ask, budgets)

    async def _reserve(
        self, earlier: Account, begun: Account, ask: Ask, budgets: Budgets
    ) -> Outcome | None:
        why: str | None = None
        async with self._runtime.reserving, self._ledger.turn():
            for _ in range(_TRIES):
                why = find_refusal(ask, await self._envelopes(budgets, earlier))
                if why is not None:
                    self._record.note(RunLabels(account=earlier))
                    break
                await self._record.label(RunLabels(account=begun))
                # The second look: a launch of another worker may have reserved meanwhile.
                why = find_refusal(ask, await self._envelopes(budgets, earlier))
                if why is None:
                    self._record.note(RunLabels(account=self._start_meter(begun)))
                    return None
                await self._record.label(RunLabels(account=earlier))
                await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311
        return Outcome(TerminationReason.OVER_BUDGET, f"Not launched. {why}.")

    async def _envelopes(self, budgets: Budgets, earlier: Account) -> list[Envelope]:
        """The limits of others that hold for the launch, with what all others use of them."""
        now, run = self._now(), self._record.run
        found: list[Envelope] = []
        parent = self._record.labels.part_of
        if self._whole.are_set and parent:
            parts = await self._ledger.parts(parent)
            used = _add(part.used(now) for part in parts if part.run.id != run.id)
            used = used.plus(earlier.used(now))
            found.append(
                Envelope("limit of the whole it belongs to", self._whole, used, _START_OVER)
            )
        if budgets.budgets:
            today = day_of(now)
            books = await self._ledger.books(budgets.budgets, today=today)
            for budget in budgets.budgets:
                own = self._earlier_use(earlier, budget.period, books.closed.until)
                used = books.used(budget, now, but=run.id).plus(own)
                found.append(Envelope(budget.words, budget.limits, used))
        return found

    def _earlier_use(self, earlier: Account, period: Period, since: str) -> Used:
        """What earlier attempts of this job used in a period, on days that are not closed."""
        now = self._now()
        today = day_of(now)
        return earlier.used(now, counts=lambda day: day >= since and period.counts(day, today))

    def attach(self, attempt: int) -> None:
        """Continue the account of an attempt whose job was found."""
        account = self._record.labels.account
        if account is None or self._request.launcher_job_id is not None:
            return
        last = account.last
        if last is None or last.attempt != attempt or last.ended:
            account = self._begin(account, attempt)
            account = account if self._own.are_set else account.without_limit()
        self._record.note(RunLabels(account=self._start_meter(account)))

    def note_running(self) -> None:
        """Let the time count: the job runs. Costs no call of its own."""
        self._note(lambda account, now: account.run(now))

    def note_pending(self) -> None:
        """Let no time count: the job waits on a cluster of others."""
        if not self._is_billed_at_launch:
            self._note(lambda account, now: account.pause(now))

    def end(self, *, is_billed_idle: bool) -> None:
        """End the attempt in the account. Costs no call of its own."""
        self._note(lambda account, now: account.end(now, is_billed_idle=is_billed_idle))

    @property
    def over_attempt(self) -> int | None:
        """The attempt that was ended because it reached its limit."""
        return self._record.labels.over_budget_attempt

    def over_outcome(self) -> Outcome:
        """The outcome of such an attempt."""
        why = self._record.labels.over_budget_for or "its limit was reached"
        return Outcome(TerminationReason.OVER_BUDGET, f"Ended at its limit: {why}.")

    async def must_end(self, attempt: int) -> bool:
        """Look at the limit of a running attempt: warn near it; whether it must end now."""
        account = self._record.labels.account
        booking = account.last if account else None
        ended_by_worker = self._runtime.over_budget.get(self._record.run.id)
        if account is None or booking is None or self.over_attempt == attempt:
            return False
        now = self._now()
        seconds = booking.meter.seconds(now)
        limit = booking.limit_seconds
        why = ended_by_worker
        if why is None and limit is not None and seconds >= limit:
            why = self._describe(account, seconds, limit)
        if why is not None:
            # Write the reason first: whatever finds the job ended must know that we ended it.
            await self._record.label(RunLabels(over_budget_attempt=attempt, over_budget_for=why))
            self._report.say("It has reached its limit and is cancelled now: %s", why)
            await self._send(why, share=1.0)
            return True
        if limit is None:
            return False
        if seconds >= WARN_SHARE * limit and account.warned_attempt != attempt:
            await self._warn(account, attempt, seconds, limit)
        elif _age(booking.meter.since, now) >= _KEEP_SECONDS:
            await self._record.label(RunLabels(account=account.renew(now)))
        return False

    def seconds_until_due(self) -> float:
        """How long until the job nears or reaches its limit; infinite if it does neither."""
        account = self._record.labels.account
        booking = account.last if account else None
        if booking is None or booking.limit_seconds is None or booking.meter.since is None:
            return math.inf
        used = booking.meter.seconds(self._now())
        due = (WARN_SHARE * booking.limit_seconds, booking.limit_seconds)
        return next((at - used for at in due if at > used), math.inf)

    async def end_cluster(self, outcome: Outcome, handle: JobHandle) -> Outcome:
        """Stop the cluster of a job that was ended at its limit, if it is the job's own."""
        where = f"{handle.cluster_name} on {handle.cloud}"
        launcher = self._runtime.launcher
        if self._request.cluster_name or not self._is_billed_at_launch:
            return outcome
        try:
            with self._runtime.ending_cluster(handle.cloud, handle.cluster_name):
                await launcher.stop_cluster(handle.cloud, handle.cluster_name)
            done = f"Its own cluster {where} was stopped; its disks are billed until down_cluster"
        except OumiFlowsError:  # not every cloud can stop one
            try:
                with self._runtime.ending_cluster(handle.cloud, handle.cluster_name):
                    await launcher.down_cluster(handle.cloud, handle.cluster_name)
                done = f"Its own cluster {where} was taken down"
            except OumiFlowsError as error:
                done = f"Its own cluster {where} is still billed: {error.what.rstrip('.')}"
                self.end(is_billed_idle=True)
                return Outcome(outcome.reason, f"{outcome.text.rstrip('. ')}. {done}.")
        self.end(is_billed_idle=False)
        return Outcome(outcome.reason, f"{outcome.text.rstrip('. ')}. {done}.")

    def _account(self, job_config: str) -> Account:
        known = self._record.labels.account
        if known is not None and known.bookings:
            return known
        config = cast("dict[str, Any]", parse_yaml(job_config, "the job config"))
        request = self._request
        if request.gpus == ALL:
            request = request.model_copy(update={"gpus": len(read_gpus().devices) or 1})
        rate = rate_of(request, config, price=self._record.labels.hourly_price)
        return Account(price=rate.price, gpus=rate.gpus, pool=self._pool)

    def _begin(self, account: Account, attempt: int) -> Account:
        timeout = self._request.timeout_seconds
        if timeout is not None and self._is_billed_at_launch:
            timeout += START_SECONDS
        idle, now = idle_seconds(self._request), self._now()
        limit = seconds_allowed(
            self._own,
            account.before(attempt, now).used(now).spent,
            account.rate,
            timeout_seconds=timeout,
            idle_seconds=idle,
        )
        return account.begin(
            attempt,
            now=now,
            day=day_of(now).isoformat(),
            limit_seconds=limit,
            idle_seconds=idle,
        )

    def _refuse_own(self, ask: Ask, spent: Amount) -> str | None:
        """Say why the limits of the job itself leave nothing for the attempt."""
        cost_only = self._own.cost is not None and self._own.gpu_hours is None
        if cost_only and ask.rate.price is None:
            return (
                "Not launched. max_cost is in US dollars, and no price is known for this machine. "
                "Give max_gpu_hours: the limit is then in hours."
            )
        if ask.seconds is None or ask.seconds > 0:
            return None
        why = find_refusal(
            ask._replace(seconds=1.0), [Envelope(_OWN, self._own, Used(spent), _START_OVER)]
        )
        return f"Not launched. {why or 'The limit of the job is used up'}."

    def _start_meter(self, account: Account) -> Account:
        return account.run(self._now()) if self._is_billed_at_launch else account

    def _note(self, change: Callable[[Account, Instant], Account]) -> None:
        account = self._record.labels.account
        if account is None or account.last is None:
            return
        changed = change(account, self._now())
        if changed != account:
            self._record.note(RunLabels(account=changed))

    def _describe(self, account: Account, seconds: float, limit: float) -> str:
        used = account.rate.amount(seconds)
        parts = [hours_words(used.gpu_ms)]
        if account.price is not None:
            parts.insert(0, money_words(used.nanodollars))
        share = 100 * seconds / limit if limit else 100.0
        return f"{' and '.join(parts)}, {share:.0f} % of what this attempt reserved"

    async def _warn(self, account: Account, attempt: int, seconds: float, limit: float) -> None:
        account = account.renew(self._now()).model_copy(update={"warned_attempt": attempt})
        await self._record.label(RunLabels(account=account))
        why = self._describe(account, seconds, limit)
        self._report.say("It nears its limit, at which it is cancelled: %s", why)
        await self._send(f"It nears its limit: {why}", share=seconds / limit)

    async def _send(self, summary: str, *, share: float) -> None:
        """Send the event that notifications react to; the job does not wait for it."""

        async def send() -> None:
            try:
                await send_run_event(
                    self._record.run,
                    names.BUDGET_EVENT,
                    facts={"oumi.budget": "over" if share >= 1 else "near"},
                    payload={"summary": summary, "share": round(share, 3)},
                )
            except (httpx.HTTPError, ObjectNotFound, OSError, TimeoutError):
                return  # the log has it

        await self._runtime.do_later(send())


def _add(parts: Any) -> Used:
    total = Used()
    for one in parts:
        total = total.plus(one)
    return total


def _age(since: Instant | None, now: Instant) -> float:
    if since is None:
        return 0.0
    return now.monotonic - since.monotonic if since.boot == now.boot else _KEEP_SECONDS
