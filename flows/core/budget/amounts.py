"""Amounts of money, GPU time and jobs, in whole numbers: sums of them are exact."""

from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from flows.core.models import Value

LIMIT_MAX: Final = 1_000_000
"""The largest limit of money (US dollars), GPU-hours or jobs."""

_NANO: Final = 1_000_000_000
_MS: Final = 1000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Amount:
    """What jobs used, or may use.

    Attributes:
        nanodollars: Money, in billionths of a US dollar.
        gpu_ms: GPU time in milliseconds.
        jobs: The number of jobs.
    """

    nanodollars: int = 0
    gpu_ms: int = 0
    jobs: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        """Add two amounts."""
        return Amount(
            self.nanodollars + other.nanodollars,
            self.gpu_ms + other.gpu_ms,
            self.jobs + other.jobs,
        )

    @property
    def dollars(self) -> float:
        """The money, to the cent's hundredth."""
        return round(self.nanodollars / _NANO, 4)

    @property
    def gpu_hours(self) -> float:
        """The GPU time in hours."""
        return round(self.gpu_ms / _HOUR_MS, 6)


class Rate(NamedTuple):
    """What an hour of a job counts.

    Attributes:
        price: US dollars an hour, of all nodes; None: no price is known.
        gpus: GPUs; a job without GPUs counts as one, so that a limit in hours holds for it.
    """

    price: float | None
    gpus: int

    def amount(self, seconds: float, *, idle_seconds: float = 0.0) -> Amount:
        """The amount of a time; idle time costs money but no GPU time."""
        ms, idle_ms = round(seconds * _MS), round(idle_seconds * _MS)
        nano_an_hour = round((self.price or 0.0) * _NANO)
        # Half a unit is added so that the division rounds.
        money = ((ms + idle_ms) * nano_an_hour + _HOUR_MS // 2) // _HOUR_MS
        return Amount(money, ms * self.gpus)


class Limits(Value):
    """The most that may be spent; None: without a limit."""

    cost: Annotated[float, Field(ge=0, le=LIMIT_MAX)] | None = Field(
        default=None, description="US dollars."
    )
    gpu_hours: Annotated[float, Field(ge=0, le=LIMIT_MAX)] | None = None
    jobs: Annotated[int, Field(ge=0, le=LIMIT_MAX)] | None = None

    @property
    def are_set(self) -> bool:
        """Whether there is any limit."""
        return self != Limits()

    @property
    def in_units(self) -> tuple[int | None, int | None, int | None]:
        """The limits in the units of `Amount`."""
        return (
            None if self.cost is None else round(self.cost * _NANO),
            None if self.gpu_hours is None else round(self.gpu_hours * _HOUR_MS),
            self.jobs,
        )

    def share(self, used: Amount) -> float:
        """The largest share of a limit that is used; 1.0: all of it, or more."""
        pairs = zip((used.nanodollars, used.gpu_ms, used.jobs), self.in_units, strict=True)
        return max((_share(part, limit) for part, limit in pairs if limit is not None), default=0.0)

    def left(self, used: Amount) -> "Limits":
        """What is left of the limits."""
        nano, gpu_ms, jobs = self.in_units
        return Limits(
            cost=None if nano is None else max(0, nano - used.nanodollars) / _NANO,
            gpu_hours=None if gpu_ms is None else max(0, gpu_ms - used.gpu_ms) / _HOUR_MS,
            jobs=None if jobs is None else max(0, jobs - used.jobs),
        )

    def exceeds(self, other: "Limits") -> bool:
        """Whether these limits allow more than the others in any respect."""
        pairs = zip(self.in_units, other.in_units, strict=True)
        return any(old is not None and (new is None or new > old) for new, old in pairs)


def _share(used: int, limit: int) -> float:
    return used / limit if limit else 1.0


def money_words(nanodollars: int) -> str:
    """Money for people: to the cent, and finer where a cent is too coarse."""
    dollars = nanodollars / _NANO
    return f"${dollars:,.2f}" if dollars == 0 or abs(dollars) >= 0.1 else f"${dollars:.4f}"


def hours_words(gpu_ms: int) -> str:
    """GPU time for people."""
    return f"{gpu_ms / _HOUR_MS:,.4g} GPU-hours"
