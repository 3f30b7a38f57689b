"""The commands for jobs."""

from functools import partial
from typing import Annotated

import typer

from flows.core.errors import InvalidArgument
from flows.core.models import JobHandle, JobStatus, NotifyOn
from flows.core.names import LOCAL_CLOUD
from mcp_server.cli import views
from mcp_server.cli.exits import EXIT_OF_STATE, Exit
from mcp_server.cli.following import Patience, display_of, follow_log, watch
from mcp_server.cli.options import (
    AsJson,
    AutostopMinutes,
    Cloud,
    ClusterName,
    CommandName,
    Config,
    Cursor,
    JobId,
    JobName,
    Lines,
    MaxRetries,
    NamePart,
    Notify,
    NotifyAt,
    OnCloud,
    Overrides,
    OwnOutput,
    RetryOn,
    SkipPreflight,
    Status,
    TimeoutSeconds,
    check_length,
    new_job,
)
from mcp_server.cli.output import Output
from mcp_server.cli.ports import Backend, Jobs
from mcp_server.services.jobs.logs import DEFAULT_LINES
from mcp_server.services.jobs.results import JobLogs


class JobCommands:
    """The methods are the commands.

    Args:
        backend: What they work on.
        output: Where they write.
    """

    def __init__(self, backend: Backend, output: Output) -> None:
        self._backend = backend
        self._output = output

    def add_to(self, app: typer.Typer, *, epilog: str) -> None:
        """Add the commands to `app`; those that follow a job end their help with `epilog`."""
        for name, method in (
            ("run", self.run),
            ("jobs", self.jobs),
            ("show", self.show),
            ("logs", self.logs),
            ("watch", self.watch),
            ("retry", self.retry),
            ("adopt", self.adopt),
        ):
            app.command(
                name,
                rich_help_panel="Jobs",
                epilog=epilog if name in ("run", "watch") else None,
            )(method)

    def run(
        self,
        *,
        config: Config,
        command: CommandName = "train",
        overrides: Overrides = None,
        job_name: JobName = None,
        cloud: Cloud = LOCAL_CLOUD,
        cluster_name: ClusterName = "",
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="The same key gives the same job."),
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
            bool, typer.Option("--dry-run", help="Say what would run and start nothing.")
        ] = False,
        follow: Annotated[
            bool,
            typer.Option("--watch/--detach", help="Follow the job to its end, or only start it."),
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start a job and write its id.

        A relative CONFIG is looked for in the current folder, in which the job also runs.
        """
        if dry_run and follow:
            raise InvalidArgument("--watch does not go with --dry-run", "Leave one of them out")
        new = new_job(
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
        )
        if dry_run:
            plan = self._backend.call(lambda jobs: jobs.plan(new), needs_engine=False)
            if as_json:
                self._output.json(plan)
            else:
                views.show_plan(plan, self._output)
            return Exit.OK
        key = check_length("--idempotency-key", idempotency_key, 200)
        job = self._backend.call(lambda jobs: jobs.submit(new, idempotency_key=key))
        job_id = job.job_id or ""
        if as_json:
            self._output.json(job)
        else:
            self._output.text(job_id)
            self._output.note(f"{job.name} is {job.state}" + (f"; {job.url}" if job.url else ""))
            views.show_warnings(job.warnings, self._output)
        return self._watch(job_id, as_json=as_json) if follow else Exit.OK

    def jobs(
        self,
        *,
        status: Status = "all",
        cloud: OnCloud = "",
        name: NamePart = "",
        limit: Annotated[
            int, typer.Option("--limit", min=1, max=100, help="Jobs to list at most.")
        ] = 20,
        cursor: Cursor = None,
        as_json: AsJson = False,
    ) -> Exit:
        """List jobs, the newest first."""
        page = self._backend.call(
            lambda jobs: jobs.list(
                status=status, cloud=cloud, name=name, limit=limit, cursor=cursor
            )
        )
        if as_json:
            self._output.json(page)
        else:
            views.show_jobs(page, self._output)
        return Exit.OK

    def show(self, *, job_id: JobId, as_json: AsJson = False) -> Exit:
        """Show everything about a job."""
        status = self._backend.call(lambda jobs: jobs.status(job_id))
        if as_json:
            self._output.json(status)
        else:
            views.show_status(status, self._output)
        return Exit.OK

    def logs(
        self,
        *,
        job_id: JobId,
        follow: Annotated[
            bool, typer.Option("--follow", "-f", help="Keep reading until the job has ended.")
        ] = False,
        lines: Lines = DEFAULT_LINES,
        grep: Annotated[
            str | None,
            typer.Option(
                "--grep", metavar="REGEX", help="Only lines that match this regular expression."
            ),
        ] = None,
        cursor: Cursor = None,
        as_json: AsJson = False,
    ) -> Exit:
        """Write a job's output: its last lines, or what follows a cursor."""

        def show(page: JobLogs) -> None:
            if as_json:
                self._output.json(page)
            elif page.lines_returned:
                self._output.log(page.logs)

        async def read(jobs: Jobs) -> JobLogs:
            page = await jobs.logs(job_id, lines=lines, cursor=cursor, grep=grep)
            show(page)
            if not follow:
                return page
            patience = Patience(self._output)
            patience.note_answer()
            return await follow_log(jobs, page, grep=grep, show=show, patience=patience)

        page = self._backend.call(read)
        if not (as_json or follow):
            self._output.note(page.summary)
        return Exit.OK

    def watch(self, *, job_id: JobId, as_json: AsJson = False) -> Exit:
        """Follow a job to its end: state, step, loss and time left.

        Ctrl-C stops watching and leaves the job running.
        """
        return self._watch(job_id, as_json=as_json)

    def retry(
        self,
        *,
        job_id: JobId,
        fresh: Annotated[
            bool,
            typer.Option(
                "--fresh", help="Start over instead of resuming from the last whole checkpoint."
            ),
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start another attempt of a job that failed, crashed or was cancelled."""
        status = self._backend.call(lambda jobs: jobs.retry(job_id, resume=not fresh))
        self._tell(status, as_json=as_json)
        return Exit.OK

    def adopt(
        self,
        *,
        cloud: Annotated[str, typer.Argument(metavar="CLOUD", help="Oumi cloud.")],
        cluster_name: Annotated[
            str, typer.Argument(metavar="CLUSTER", help="Name of the cluster.")
        ],
        launcher_job_id: Annotated[
            str, typer.Argument(metavar="ID", help="What the cluster calls the job.")
        ],
        as_json: AsJson = False,
    ) -> Exit:
        """Track a job that was launched without oumi-flows, and write its id."""
        job = JobHandle(
            cloud=check_length("CLOUD", cloud, 64) or "",
            cluster_name=check_length("CLUSTER", cluster_name, 128) or "",
            launcher_job_id=(check_length("ID", launcher_job_id, 200) or "").strip(),
        )
        adopted = self._backend.call(lambda jobs: jobs.adopt(job))
        if as_json:
            self._output.json(adopted)
        else:
            self._output.text(adopted.job_id)
            self._output.note(adopted.summary)
        return Exit.OK

    def _watch(self, job_id: str, *, as_json: bool) -> Exit:
        try:
            with display_of(self._output, as_json=as_json) as show:
                patience = Patience(self._output)
                status = self._backend.call(
                    partial(watch, job_id=job_id, show=show, patience=patience)
                )
        except KeyboardInterrupt:
            self._output.note(
                f"The job keeps running: `oumi-flows watch {job_id}` to watch it again, "
                f"`oumi-flows cancel {job_id}` to end it."
            )
            raise
        if not as_json:
            views.show_end(status, self._output)
        return EXIT_OF_STATE[status.state]

    def _tell(self, status: JobStatus, *, as_json: bool) -> None:
        if as_json:
            self._output.json(status)
        else:
            self._output.line(status.summary, style=views.STYLE_OF_STATE[status.state])
