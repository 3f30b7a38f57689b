"""The account of one job: what each attempt reserved and used. It is kept as a label of its run.

Only the worker that executes a run writes its account, so no two writers meet, and a write that is
repeated changes nothing. Time comes from `flows.core.stopwatch`: setting a clock changes no amount.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError

from flows.core.budget.amounts import Amount, Rate
from flows.core.models import Value
from flows.core.stopwatch import Instant, Stopwatch, start


def _meter(value: object) -> Stopwatch:
    found = value if isinstance(value, Stopwatch) else Stopwatch.parse(value)
    if found is None:
        raise ValueError("not a stopwatch")
    return found


class Booking(Value):
    """One attempt in the account of a job.

    Attributes:
        attempt: Its number.
        day: The UTC day that its whole amount counts on, as YYYY-MM-DD.
        limit_seconds: The time that is reserved for it, and at which it ends; None: no limit.
        idle_seconds: How long its cluster is billed after it ended, until it stops itself.
        meter: The time that counts.
        ended: Whether it has ended: what it did not use of its reservation is free again.
    """

    attempt: int
    day: str
    limit_seconds: float | None = None
    idle_seconds: float = 0.0
    meter: Annotated[Stopwatch, PlainValidator(_meter), PlainSerializer(str)]
    ended: bool = False


class Used(NamedTuple):
    """What was spent, and what is reserved beyond that for attempts that have not ended."""

    spent: Amount = Amount()
    reserved: Amount = Amount()

    def plus(self, other: "Used") -> "Used":
        """Add both parts."""
        return Used(self.spent + other.spent, self.reserved + other.reserved)

    @property
    def total(self) -> Amount:
        """All that is not free."""
        return self.spent + self.reserved


class Account(Value):
    """What a job reserved and used.

    Attributes:
        price: US dollars an hour; None: no price is known.
        gpus: What an hour counts in GPU-hours.
        pool: The work pool whose budgets it belongs to.
        warned_attempt: The attempt that was warned of its limit.
        bookings: Its attempts, oldest first.
    """

    price: float | None = None
    gpus: int = 1
    pool: str = ""
    warned_attempt: int | None = None
    bookings: list[Booking] = Field(default_factory=list[Booking])

    @classmethod
    def parse(cls, text: object) -> "Account | None":
        """Read the account from a text that `str` made; None for any other text."""
        try:
            return text if isinstance(text, cls) else cls.model_validate_json(str(text))
        except ValidationError:
            return None

    def __str__(self) -> str:
        """The text to store it as."""
        return self.model_dump_json(exclude_defaults=True)

    @property
    def rate(self) -> Rate:
        """What an hour counts."""
        return Rate(self.price, self.gpus)

    @property
    def last(self) -> Booking | None:
        """The attempt that began last."""
        return self.bookings[-1] if self.bookings else None

    def begin(
        self,
        attempt: int,
        *,
        now: Instant,
        day: str,
        limit_seconds: float | None,
        idle_seconds: float = 0.0,
    ) -> "Account":
        """Book an attempt; every earlier one has ended. A second call books nothing more."""
        known = next((one for one in self.bookings if one.attempt == attempt), None)
        booking = Booking(
            attempt=attempt,
            day=known.day if known else day,
            limit_seconds=limit_seconds,
            idle_seconds=idle_seconds,
            meter=known.meter if known else Stopwatch(attempt, 0.0, None),
        )
        bookings = [*self.before(attempt, now).bookings, booking]
        return self.model_copy(update={"bookings": bookings})

    def without_limit(self) -> "Account":
        """The account with no limit of the last attempt."""
        return self._with_last(limit_seconds=None)

    def before(self, attempt: int, now: Instant) -> "Account":
        """The account without an attempt; all others have ended."""
        others = [one for one in self.bookings if one.attempt != attempt]
        return self.model_copy(update={"bookings": [_close(one, now) for one in others]})

    def run(self, now: Instant) -> "Account":
        """Let the time of the last attempt count from now on, if it does not already."""
        last = self.last
        if last is None or last.ended or last.meter.is_of_boot(now):
            return self
        known = last.meter
        return self._with_last(meter=start(known, attempt=last.attempt, now=now))

    def pause(self, now: Instant) -> "Account":
        """Let no time count until `run`."""
        last = self.last
        if last is None or last.meter.since is None:
            return self
        return self._with_last(meter=last.meter.stop(now))

    def renew(self, now: Instant) -> "Account":
        """Keep the time so far: a reboot then leaves only the time since to the wall clock."""
        return self.pause(now).run(now)

    def end(self, now: Instant, *, is_billed_idle: bool) -> "Account":
        """End the last attempt.

        Args:
            now: The clocks.
            is_billed_idle: Whether its cluster stays up until it stops itself.
        """
        last = self.last
        if last is None or last.ended:
            return self
        idle = last.idle_seconds if is_billed_idle else 0.0
        return self.pause(now)._with_last(ended=True, idle_seconds=idle)

    def used(
        self,
        now: Instant,
        *,
        ended_at: Instant | None = None,
        counts: Callable[[str], bool] = lambda day: True,
    ) -> Used:
        """Sum up what the attempts of some days used and reserve.

        Args:
            now: The clocks.
            ended_at: When the run ended, on the wall clock; None: it has not.
            counts: Whether a day counts.
        """
        total = Used()
        for index, one in enumerate(self.bookings):
            if counts(one.day):
                total = total.plus(self._used_by(one, now, ended_at))
                total = total.plus(Used(Amount(jobs=int(index == 0))))
        return total

    def _used_by(self, one: Booking, now: Instant, ended_at: Instant | None) -> Used:
        if one.ended:
            return Used(self.rate.amount(one.meter.seconds(now), idle_seconds=one.idle_seconds))
        if ended_at is not None:
            return self._used_by(_close(one, ended_at), now, None)
        seconds = one.meter.seconds(now)
        spent = self.rate.amount(seconds)
        most = self.rate.amount(
            max(seconds, one.limit_seconds or 0.0), idle_seconds=one.idle_seconds
        )
        more = Amount(most.nanodollars - spent.nanodollars, most.gpu_ms - spent.gpu_ms)
        return Used(spent, more)

    def _with_last(self, **changes: object) -> "Account":
        last = self.bookings[-1].model_copy(update=changes)
        return self.model_copy(update={"bookings": [*self.bookings[:-1], last]})


def _close(one: Booking, now: Instant) -> Booking:
    """End an attempt whose end was not measured; it did not run past its limit."""
    if one.ended:
        return one
    seconds = one.meter.seconds(now)
    if one.limit_seconds is not None:
        seconds = min(seconds, max(one.limit_seconds, one.meter.before))
    return one.model_copy(update={"meter": Stopwatch(one.attempt, seconds, None), "ended": True})
