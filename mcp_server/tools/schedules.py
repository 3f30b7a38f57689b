"""The tools that work on schedules."""

from typing import Annotated, Any, Final, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from mcp_server.services.schedules.service import ScheduleService
from mcp_server.services.schedules.values import (
    NewSchedule,
    ScheduleChange,
    ScheduledJob,
    ScheduleList,
)
from mcp_server.tools.arguments import Before
from mcp_server.tools.edge import always, make_tool, unless_dry_run
from mcp_server.tools.jobs import Cursor

_SAME: Final[Any] = Field(description="Same.")


class ScheduleTools:
    """The methods are the tools.

    Args:
        schedules: Use cases of schedules.
    """

    def __init__(self, schedules: ScheduleService) -> None:
        self._schedules = schedules

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(
                self.schedule_job,
                title="Schedule a job",
                idempotent=False,
                open_world=True,
                changes=unless_dry_run,
            ),
            make_tool(self.list_schedules, title="List schedules"),
            make_tool(
                self.update_schedule,
                title="Change a schedule",
                destructive=True,
                changes=always,
            ),
        ]

    async def schedule_job(
        self,
        *,
        new: NewSchedule,
        dry_run: Annotated[bool, _SAME, Before("job_name")] = True,
        idempotency_key: Annotated[
            str | None, Field(min_length=1, max_length=200), _SAME, Before("overrides")
        ] = None,
    ) -> ScheduledJob:
        """Start a job on a schedule, or once later: give one of cron, interval_seconds and at.

        Other arguments as in run_oumi_job; dry_run returns the next times. config_path may be a
        pipeline's. The config is copied now: after a change, make a new schedule. Tell the person
        if starts_by_itself is false.
        """
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
