"""When a schedule fires, and what the use cases of schedules answer with."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import Field

from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.models import Overlap, Value
from flows.core.states import JobState, TerminationReason
from mcp_server.prefect_api.models import Deployment
from mcp_server.services.jobs.submitting import NewJob

_CRON_NAMES: Final = frozenset(
    {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
)
_NO_ZONES: Final = frozenset({"localtime", "Factory", "posixrules"})
_EXACTLY_ONE: Final = "Give exactly one of cron, interval_seconds and at"


class Times(Value):
    """When a schedule fires, as a person says it; nothing of it has been checked."""

    cron: str | None = None
    interval_seconds: Annotated[float | None, Field(ge=1, le=315_576_000)] = None
    at: str | None = None
    timezone: str = "UTC"


class NewSchedule(Value):
    """A schedule as a person asks for it; nothing of it has been checked."""

    job: NewJob
    times: Times
    name: str | None = Field(default=None, description="What people call it; None: as the job.")
    overlap: Overlap = Overlap.SKIP


class When(Value):
    """When a schedule fires; exactly one of the first three."""

    cron: str | None = None
    interval_seconds: float | None = None
    at: datetime | None = None
    timezone: str = "UTC"

    @classmethod
    def of(cls, times: Times, *, now: datetime) -> "When":
        """What a person said, checked as far as this machine's clock and time zones go.

        Raises:
            InvalidArgument: It says no time, several, or one that is past.
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
        """When a schedule that exists fires; changes made in the Prefect UI are in it."""
        at = deployment.label(names.LABEL_FIRES_AT)
        if at or not deployment.schedules:
            return cls(at=datetime.fromisoformat(at) if at else None)
        schedule = deployment.schedules[0].schedule
        return cls(
            cron=schedule.get("cron"),
            interval_seconds=schedule.get("interval"),
            timezone=schedule.get("timezone") or "UTC",
        )

    def next_words(self, times: list[datetime]) -> str:
        """The first of the next times, for people."""
        if not times:
            return "with no next time"
        here = times[0].astimezone(_zone(self.timezone))
        local = "" if self.timezone == "UTC" else f" ({here:%Y-%m-%d %H:%M} {self.timezone})"
        return f"next at {times[0].isoformat(timespec='seconds')}{local}"

    @property
    def words(self) -> str:
        """When, for people."""
        if self.at is not None:
            return f"once, at {self.at.isoformat()}"
        if self.interval_seconds is not None:
            return f"every {self.interval_seconds:g} s"
        return f"cron {self.cron} {self.timezone}" if self.cron else "never"

    def prefect_schedule(self, *, anchor: datetime) -> dict[str, Any] | None:
        """The schedule as Prefect's API takes it; None for a single time.

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


class ScheduledJob(Value):
    """A schedule that was made, or would be, with its next five times."""

    summary: str = Field(description="One line a person can read.")
    schedule_id: str | None = Field(default=None, description="Null in a dry run.")
    name: str
    state: ScheduleState | None = Field(default=None, description="Null in a dry run.")
    dry_run: bool
    when: str
    overlap: Overlap
    next_runs: list[datetime]
    job_id: str | None = Field(default=None, description="The one job of a single time.")
    starts_by_itself: bool = Field(description="Whether the engine starts with this machine.")
    command: str
    config_path: str
    cloud: str
    cluster_name: str
    model_name: str
    output_dir: str
    warnings: list[str] = Field(
        default_factory=list[str], description="What pre-flight found, and in a dry run did not."
    )
    job_config: str | None = Field(default=None, description="What would run; in a dry run.")
    warnings: list[str] = Field(
        default_factory=list[str], description="What was found about the folder it writes to."
    )
    url: str | None = None


class ScheduleChange(Value):
    """A schedule that was paused, resumed or deleted."""

    summary: str = Field(description="One line a person can read.")
    schedule_id: str
    name: str
    state: ScheduleState
    next_runs: list[datetime]
    live_jobs: list[str] = Field(description="Its jobs that have started and go on.")


def _check_cron(cron: str) -> None:
    """Refuses what Prefect 3.8 takes for more than minutes: seconds, years, and chance.

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
        # These are files of the machine, not zones; Prefect does not know them.
        if name in _NO_ZONES or name.startswith(("posix/", "right/")):
            raise KeyError(name)
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:  # as the name looks to the file system
        raise InvalidArgument(
            f"timezone {name!r} is not known", "Use an IANA name such as Europe/Zurich or UTC"
        ) from error


def _instant(text: str, zone: ZoneInfo, *, now: datetime) -> datetime:
    """The instant that `text` names, a time of `zone` where it names none itself; in UTC."""
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
            "Give a time to come, or start the job now with run_oumi_job",
        )
    return instant
