"""The commands for schedules."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from mcp_server.cli import views
from mcp_server.cli.arguments import check_key
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, Cursor
from mcp_server.services.schedules.service import ScheduleService
from mcp_server.services.schedules.values import NewSchedule, ScheduleChange

ScheduleId = Annotated[
    str,
    typer.Argument(
        metavar="SCHEDULE",
        help="Id of a schedule, unique prefix of it, or its name.",
        show_default=False,
    ),
]


class ScheduleCommands(Commands):
    """The methods are the commands."""

    panel = "Schedules"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {
            "schedule": self.schedule,
            "schedules": self.schedules,
            "pause-schedule": self.pause,
            "resume-schedule": self.resume,
            "unschedule": self.unschedule,
        }

    def schedule(
        self,
        *,
        new: NewSchedule,
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="The same key gives the same schedule."),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Show the next times and create nothing.")
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start a job repeatedly, or once later: give one of --cron, --every and --at."""
        key = check_key(idempotency_key)
        made = self._backend.use(
            lambda services: (
                services.schedules.plan(new)
                if dry_run
                else services.schedules.schedule(new, idempotency_key=key)
            ),
            needs_engine=not dry_run or bool(new.job.from_job),
        )
        return self._write(made, views.show_schedule, as_json=as_json)

    def schedules(
        self,
        *,
        limit: Annotated[
            int, typer.Option("--limit", min=1, max=100, help="Schedules to list at most.")
        ] = 10,
        cursor: Cursor = None,
        as_json: AsJson = False,
    ) -> Exit:
        """List schedules by name, with the next time and the last run of each."""
        page = self._backend.use(
            lambda services: services.schedules.list(limit=limit, cursor=cursor)
        )
        return self._write(page, views.show_schedules, as_json=as_json)

    def pause(self, *, schedule_id: ScheduleId, as_json: AsJson = False) -> Exit:
        """Pause a schedule. Jobs it already started keep running."""
        return self._change(lambda schedules: schedules.pause(schedule_id), as_json=as_json)

    def resume(self, *, schedule_id: ScheduleId, as_json: AsJson = False) -> Exit:
        """Resume a paused schedule."""
        return self._change(lambda schedules: schedules.resume(schedule_id), as_json=as_json)

    def unschedule(self, *, schedule_id: ScheduleId, as_json: AsJson = False) -> Exit:
        """Delete a schedule. Jobs it already started keep running."""
        return self._change(lambda schedules: schedules.delete(schedule_id), as_json=as_json)

    def _change(
        self, change: Callable[[ScheduleService], Awaitable[ScheduleChange]], *, as_json: bool
    ) -> Exit:
        changed = self._backend.use(lambda services: change(services.schedules))
        return self._write(changed, views.show_summary, as_json=as_json)
