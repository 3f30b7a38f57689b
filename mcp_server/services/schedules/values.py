"""Times of schedules, and the answers of the use cases of schedules."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import Field

from flows.core.errors import InvalidArgument
from flows.core.models import Overlap, Value
from flows.core.states import JobState, TerminationReason
from mcp_server.declared_arguments import Argument, Option
from mcp_server.prefect_api.models import Deployment
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.results import DescribedJob

_CRON_NAMES: Final = frozenset(
    {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
)
_NO_ZONES: Final = frozenset({"localtime", "Factory", "posixrules"})
_EXACTLY_ONE: Final = "Give exactly one of cron, interval_seconds and at"


class Times(Value):
    """Times of a schedule as a person requests them, unchecked."""

    cron: Annotated[
        str | None,
        Argument(
            "Minute, hour, day, month, weekday: 0 2 * * *",
            Option("Minute, hour, day, month and weekday: '0 2 * * *'."),
            max_length=200,
        ),
    ] = None
    interval_seconds: Annotated[
        float | None,
        Field(ge=1, le=315_576_000),
        Argument(
            "Repeat after this long.",
            Option("Repeat after this many seconds.", names=("--every",), metavar="SECONDS"),
            ge=1,
            le=315_576_000,
        ),
    ] = None
    at: Annotated[
        str | None,
        Argument(
            "Once, ISO 8601: 2026-12-24T02:00",
            Option("Once: 2026-12-24T02:00.", metavar="TIME"),
            max_length=64,
        ),
    ] = None
    timezone: Annotated[
        str,
        Argument(
            "IANA name, for cron and at.",
            Option("Time zone of --cron and --at, an IANA name."),
            max_length=64,
        ),
    ] = "UTC"


class NewSchedule(Value):
    """A schedule as a person requests it, unchecked."""

    times: Times
    schedule_name: Annotated[
        str | None,
        Argument(
            "For people; unique.",
            Option("Readable name of the schedule.", names=("--name",)),
            min_length=1,
            max_length=100,
        ),
    ] = None
    """None: the job's."""
    overlap: Annotated[
        Overlap,
        Argument(
            "If the previous run has not ended.",
            Option(
                "What to do while the previous run is still going: skip, queue or allow.",
                metavar="POLICY",
            ),
        ),
    ] = Overlap.SKIP
    job: NewJob = Field(description="Same.")
    """A model reads the descriptions of its arguments at run_oumi_job."""


class When(Value):
    """When a schedule fires; exactly one of the first three."""

    cron: str | None = None
    interval_seconds: float | None = None
    at: datetime | None = None
    timezone: str = "UTC"

    @classmethod
    def of(cls, times: Times, *, now: datetime) -> "When":
        """Check the request against this machine's clock and time zones.

        Raises:
            InvalidArgument: It has no time, several, or one in the past.
        """
        given = [
            name
            for name, value in times.model_dump(exclude={"timezone"}).items()
            if value is not None
        ]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise InvalidArgument(f"A schedule was given {found}", _EXACTLY_ONE)
        zone = _zone(times.timezone)
        if times.cron is not None:
            _check_cron(times.cron)
        return cls(
            cron=times.cron,
            interval_seconds=times.interval_seconds,
            at=_instant(times.at, zone, now=now) if times.at is not None else None,
            timezone=times.timezone,
        )

    @classmethod
    def of_deployment(cls, deployment: Deployment) -> "When":
        """Times of an existing schedule, with changes made in the Prefect UI."""
        at = deployment.labels.fires_at
        if at or not deployment.schedules:
            return cls(at=at)
        schedule = deployment.schedules[0].schedule
        return cls(
            cron=schedule.get("cron"),
            interval_seconds=schedule.get("interval"),
            timezone=schedule.get("timezone") or "UTC",
        )

    def next_words(self, times: list[datetime]) -> str:
        """Describe the first of the next times."""
        if not times:
            return "with no next time"
        here = times[0].astimezone(_zone(self.timezone))
        local = "" if self.timezone == "UTC" else f" ({here:%Y-%m-%d %H:%M} {self.timezone})"
        return f"next at {times[0].isoformat(timespec='seconds')}{local}"

    @property
    def words(self) -> str:
        """Its times, for people."""
        if self.at is not None:
            return f"once, at {self.at.isoformat()}"
        if self.interval_seconds is not None:
            return f"every {self.interval_seconds:g} s {self.timezone}"
        return f"cron {self.cron} {self.timezone}" if self.cron else "never"

    def prefect_schedule(self, *, anchor: datetime) -> dict[str, Any] | None:
        """Make the schedule for Prefect's API; None for a single time.

        Args:
            anchor: When the first interval begins.
        """
        if self.cron is not None:
            return {"cron": self.cron, "timezone": self.timezone}
        if self.interval_seconds is not None:
            return {
                "interval": self.interval_seconds,
                "anchor_date": anchor.isoformat(),
                "timezone": self.timezone,
            }
        return None


class ScheduleState(StrEnum):
    """Whether a schedule fires."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    """Its one time has passed."""
    DELETED = "deleted"


class LastRun(Value):
    """The last run of a schedule whose time has come."""

    job_id: str
    name: str
    state: JobState
    termination_reason: TerminationReason | None = None
    scheduled_at: datetime


class Schedule(Value):
    """A schedule in a list."""

    schedule_id: str
    name: str
    state: ScheduleState
    when: str
    overlap: Overlap
    command: str
    config_path: str
    cloud: str
    next_runs: list[datetime]
    last_run: LastRun | None = None


class ScheduleList(Value):
    """A page of schedules, by name."""

    summary: str = Field(description="One line a person can read.")
    schedules: list[Schedule]
    next_cursor: str | None = Field(default=None, description="Null: this is the last page.")


class ScheduledJob(DescribedJob):
    """A schedule that was made, or would be, with its next five times."""

    schedule_id: str | None = Field(default=None, description="Null in a dry run.")
    state: ScheduleState | None = Field(default=None, description="Null in a dry run.")
    when: str
    overlap: Overlap
    next_runs: list[datetime]
    job_id: str | None = Field(default=None, description="The one job of a single time.")
    starts_by_itself: bool = Field(description="Whether the engine starts with this machine.")
    warnings: list[str] = Field(
        default_factory=list[str],
        description="What pre-flight found; in a dry run also what it skipped.",
    )
    job_config: str | None = Field(default=None, description="What would run; in a dry run.")


class ScheduleChange(Value):
    """A schedule that was paused, resumed or deleted."""

    summary: str = Field(description="One line a person can read.")
    schedule_id: str
    name: str
    state: ScheduleState
    next_runs: list[datetime]
    live_jobs: list[str] = Field(description="Jobs it started that keep running.")


def _check_cron(cron: str) -> None:
    """Refuse what Prefect 3.9 reads beyond minutes: seconds, years, and random times.

    Raises:
        InvalidArgument: It is not five fields, nor a name for five.
    """
    fields = cron.split()
    is_by_chance = any(field[0] in "RrHh" for field in fields)
    if cron.strip().lower() in _CRON_NAMES or (len(fields) == 5 and not is_by_chance):
        return
    raise InvalidArgument(
        f"cron {cron!r} is not five fields",
        "Give minute, hour, day, month and weekday, such as '0 2 * * *', or a name such as @daily",
    )


def _zone(name: str) -> ZoneInfo:
    try:
        # These are files of the machine, not zones; Prefect rejects them.
        if name in _NO_ZONES or name.startswith(("posix/", "right/")):
            raise KeyError(name)
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # as the name looks to the file system
        raise InvalidArgument(
            f"timezone {name!r} is unknown", "Use an IANA name such as Europe/Zurich or UTC"
        ) from error


def _instant(text: str, zone: ZoneInfo, *, now: datetime) -> datetime:
    """Parse `text` as an instant in UTC; without an offset it is a time of `zone`."""
    try:
        said = datetime.fromisoformat(text.strip())
        instant = (said if said.tzinfo else said.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"at {text!r} is not a time", "Write it as 2026-12-24T02:00, or with an offset"
        ) from error
    if instant <= now:
        raise InvalidArgument(
            f"at {instant.isoformat()} is past, it is {now.isoformat(timespec='seconds')}",
            "Give a future time, or start the job now with run_oumi_job",
        )
    return instant
