"""The tools that work on schedules."""

from typing import Annotated, Any, Final, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.core.models import NotifyOn, Overlap, OverrideValue, RetryCause
from mcp_server.services.jobs.submitting import NewJob
from mcp_server.services.schedules.service import ScheduleService
from mcp_server.services.schedules.values import (
    NewSchedule,
    ScheduleChange,
    ScheduledJob,
    ScheduleList,
    Times,
)
from mcp_server.tools.edge import make_tool
from mcp_server.tools.jobs import Command, Cursor, Path

_SAME: Final[Any] = Field(description="Same.")


class ScheduleTools:
    """The methods are the tools.

    Args:
        schedules: Use cases of schedules.
    """

    def __init__(self, schedules: ScheduleService) -> None:
        self._schedules = schedules

    def tools(self, *, read_only: bool) -> list[Tool]:
        """The tools.

        Args:
            read_only: Whether calls that change anything are refused.
        """
        return [
            make_tool(
                self.schedule_job,
                title="Schedule a job",
                idempotent=False,
                open_world=True,
                changes=lambda arguments: not arguments["dry_run"],
                read_only=read_only,
            ),
            make_tool(self.list_schedules, title="List schedules"),
            make_tool(
                self.update_schedule,
                title="Change a schedule",
                destructive=True,
                changes=lambda _: True,
                read_only=read_only,
            ),
        ]

    async def schedule_job(
        self,
        *,
        config_path: Annotated[Path, _SAME],
        client_cwd: Annotated[Path, _SAME],
        cron: Annotated[
            str | None,
            Field(max_length=200, description="Minute, hour, day, month, weekday: 0 2 * * *"),
        ] = None,
        interval_seconds: Annotated[
            float | None, Field(ge=1, le=315_576_000, description="Repeat after this long.")
        ] = None,
        at: Annotated[
            str | None, Field(max_length=64, description="Once, ISO 8601: 2026-12-24T02:00")
        ] = None,
        timezone: Annotated[
            str, Field(max_length=64, description="IANA name, for cron and at.")
        ] = "UTC",
        schedule_name: Annotated[
            str | None, Field(min_length=1, max_length=100, description="For people; unique.")
        ] = None,
        overlap: Annotated[
            Literal["skip", "queue", "allow"],
            Field(description="If the previous run has not ended."),
        ] = "skip",
        command: Annotated[Command, _SAME] = "train",
        dry_run: Annotated[bool, _SAME] = True,
        job_name: Annotated[str | None, Field(max_length=100), _SAME] = None,
        cloud: Annotated[str, Field(max_length=64), _SAME] = "local",
        cluster_name: Annotated[str, Field(max_length=128), _SAME] = "",
        skip_preflight: Annotated[bool, _SAME] = False,
        idempotency_key: Annotated[str | None, Field(min_length=1, max_length=200), _SAME] = None,
        overrides: Annotated[dict[str, OverrideValue], Field(max_length=200), _SAME] = {},  # noqa: B006 - never changed; the schema shows it
        max_retries: Annotated[int, Field(ge=0, le=100), _SAME] = 0,
        retry_on: Annotated[list[RetryCause], Field(max_length=2), _SAME] = [],  # noqa: B006 - as above
        timeout_seconds: Annotated[float | None, Field(ge=1, le=315_576_000), _SAME] = None,
        notify: Annotated[str | None, Field(max_length=2000), _SAME] = None,
        notify_on: Annotated[Literal["end", "failure"], _SAME] = "end",
        autostop_minutes: Annotated[int | None, Field(ge=1, le=525_600), _SAME] = None,
        own_output: Annotated[bool, _SAME] = False,
    ) -> ScheduledJob:
        """Start a job on a schedule, or once later: give one of cron, interval_seconds and at.

        The other arguments are those of run_oumi_job; dry_run checks everything and returns the
        next times. config_path may be a pipeline's file. The config is copied now: after a change
        to the file, make a new schedule. Tell the person if starts_by_itself is false.
        """
        new = NewSchedule(
            job=NewJob(
                config_path=config_path,
                client_cwd=client_cwd,
                command=command,
                job_name=job_name,
                cloud=cloud,
                cluster_name=cluster_name,
                skip_preflight=skip_preflight,
                overrides=overrides,
                max_retries=max_retries,
                retry_on=retry_on,
                timeout_seconds=timeout_seconds,
                notify=notify,
                notify_on=NotifyOn(notify_on),
                autostop_minutes=autostop_minutes,
                own_output=own_output,
            ),
            times=Times(cron=cron, interval_seconds=interval_seconds, at=at, timezone=timezone),
            name=schedule_name,
            overlap=Overlap(overlap),
        )
        if dry_run:
            return await self._schedules.plan(new)
        return await self._schedules.schedule(new, idempotency_key=idempotency_key)

    async def list_schedules(
        self,
        *,
        limit: Annotated[int, Field(ge=1, le=100, description="Schedules at most.")] = 10,
        cursor: Cursor = None,
    ) -> ScheduleList:
        """List schedules by name, each with its next five times and its last run."""
        return await self._schedules.list(limit=limit, cursor=cursor)

    async def update_schedule(
        self,
        *,
        schedule_id: Annotated[
            str, Field(min_length=1, max_length=200, description="Id or name of a schedule.")
        ],
        action: Annotated[
            Literal["pause", "resume", "delete"], Field(description="What to do with it.")
        ],
    ) -> ScheduleChange:
        """Pause, resume or delete a schedule. Jobs it already started keep running."""
        match action:
            case "pause":
                return await self._schedules.pause(schedule_id)
            case "resume":
                return await self._schedules.resume(schedule_id)
            case "delete":
                return await self._schedules.delete(schedule_id)
