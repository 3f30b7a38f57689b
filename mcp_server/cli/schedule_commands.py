"""The commands for schedules."""

from typing import Annotated

import click
import typer

from flows.core.models import NotifyOn, Overlap
from flows.core.names import LOCAL_CLOUD
from mcp_server.cli import views
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import (
    AsJson,
    AutostopMinutes,
    Cloud,
    ClusterName,
    CommandName,
    Config,
    Cursor,
    JobName,
    MaxRetries,
    Notify,
    NotifyAt,
    Overrides,
    OwnOutput,
    RetryOn,
    SkipPreflight,
    TimeoutSeconds,
    check_length,
    new_job,
)
from mcp_server.cli.output import Output
from mcp_server.cli.ports import Backend
from mcp_server.services.schedules.values import NewSchedule, ScheduleChange, Times

ScheduleId = Annotated[
    str,
    typer.Argument(
        metavar="SCHEDULE",
        help="Id of a schedule, unique prefix of it, or its name.",
        show_default=False,
    ),
]


class ScheduleCommands:
    """The methods are the commands.

    Args:
        backend: What they work on.
        output: Where they write.
    """

    def __init__(self, backend: Backend, output: Output) -> None:
        self._backend = backend
        self._output = output

    def add_to(self, app: typer.Typer) -> None:
        """Add the commands to `app`."""
        for name, method in (
            ("schedule", self.schedule),
            ("schedules", self.schedules),
            ("pause-schedule", self.pause),
            ("resume-schedule", self.resume),
            ("unschedule", self.unschedule),
        ):
            app.command(name, rich_help_panel="Schedules")(method)

    def schedule(
        self,
        *,
        config: Config,
        cron: Annotated[
            str | None,
            typer.Option("--cron", help="Minute, hour, day, month and weekday: '0 2 * * *'."),
        ] = None,
        every: Annotated[
            float | None,
            typer.Option(
                "--every",
                min=1,
                max=315_576_000,
                metavar="SECONDS",
                help="Repeat after this many seconds.",
            ),
        ] = None,
        at: Annotated[
            str | None, typer.Option("--at", metavar="TIME", help="Once: 2026-12-24T02:00.")
        ] = None,
        timezone: Annotated[
            str, typer.Option("--timezone", help="Time zone of --cron and --at, an IANA name.")
        ] = "UTC",
        name: Annotated[
            str | None, typer.Option("--name", help="Readable name of the schedule.")
        ] = None,
        overlap: Annotated[
            str,
            typer.Option(
                "--overlap",
                click_type=click.Choice([policy.value for policy in Overlap]),
                metavar="POLICY",
                help="What to do while the previous run is still going: skip, queue or allow.",
            ),
        ] = Overlap.SKIP.value,
        command: CommandName = "train",
        overrides: Overrides = None,
        job_name: JobName = None,
        cloud: Cloud = LOCAL_CLOUD,
        cluster_name: ClusterName = "",
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="The same key gives the same schedule."),
        ] = None,
        max_retries: MaxRetries = 0,
        retry_on: RetryOn = None,
        timeout_seconds: TimeoutSeconds = None,
        notify: Notify = None,
        notify_on: NotifyAt = NotifyOn.END.value,
        autostop_minutes: AutostopMinutes = None,
        skip_preflight: SkipPreflight = False,
        own_output: OwnOutput = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Show the next times and create nothing.")
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start a job repeatedly, or once later: give one of --cron, --every and --at."""
        new = NewSchedule(
            job=new_job(
                config,
                command=command,
                overrides=overrides,
                job_name=job_name,
                cloud=cloud,
                cluster_name=cluster_name,
                max_retries=max_retries,
                retry_on=retry_on,
                timeout_seconds=timeout_seconds,
                notify=notify,
                notify_on=notify_on,
                autostop_minutes=autostop_minutes,
                skip_preflight=skip_preflight,
                own_output=own_output,
            ),
            times=Times(cron=cron, interval_seconds=every, at=at, timezone=timezone),
            name=check_length("--name", name, 100) or None,
            overlap=Overlap(overlap),
        )
        key = check_length("--idempotency-key", idempotency_key, 200)
        if dry_run:
            made = self._backend.schedules(lambda s: s.plan(new), needs_engine=False)
        else:
            made = self._backend.schedules(lambda s: s.schedule(new, idempotency_key=key))
        if as_json:
            self._output.json(made)
        else:
            views.show_schedule(made, self._output)
        return Exit.OK

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
        page = self._backend.schedules(lambda s: s.list(limit=limit, cursor=cursor))
        if as_json:
            self._output.json(page)
        else:
            views.show_schedules(page, self._output)
        return Exit.OK

    def pause(self, *, schedule_id: ScheduleId, as_json: AsJson = False) -> Exit:
        """Pause a schedule. Jobs it already started keep running."""
        return self._tell(self._backend.schedules(lambda s: s.pause(schedule_id)), as_json)

    def resume(self, *, schedule_id: ScheduleId, as_json: AsJson = False) -> Exit:
        """Resume a paused schedule."""
        return self._tell(self._backend.schedules(lambda s: s.resume(schedule_id)), as_json)

    def unschedule(self, *, schedule_id: ScheduleId, as_json: AsJson = False) -> Exit:
        """Delete a schedule. Jobs it already started keep running."""
        return self._tell(self._backend.schedules(lambda s: s.delete(schedule_id)), as_json)

    def _tell(self, change: ScheduleChange, as_json: bool) -> Exit:  # noqa: FBT001 - of the command
        if as_json:
            self._output.json(change)
        else:
            self._output.line(change.summary)
        return Exit.OK
