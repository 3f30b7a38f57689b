"""The commands for jobs."""

from collections.abc import Callable
from typing import Annotated

import typer

from flows.core.errors import InvalidArgument
from flows.core.models import JobHandle
from mcp_server.cli import views
from mcp_server.cli.arguments import check_key, check_length
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import EXIT_OF_STATE, Exit
from mcp_server.cli.following import Patience, display_of, follow_log, watch
from mcp_server.cli.options import (
    AsJson,
    Cursor,
    JobId,
    Lines,
    ModelPart,
    NamePart,
    OnCloud,
    Since,
    Status,
    Tag,
)
from mcp_server.cli.output import Output
from mcp_server.services.assembly import Services
from mcp_server.services.jobs.job_filter import JobFilter
from mcp_server.services.jobs.logs import DEFAULT_LINES
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.results import Adoption, JobLogs, Submission


class JobCommands(Commands):
    """The methods are the commands."""

    panel = "Jobs"
    following = frozenset({"run", "watch"})

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {
            "run": self.run,
            "jobs": self.jobs,
            "show": self.show,
            "logs": self.logs,
            "watch": self.watch,
            "retry": self.retry,
            "adopt": self.adopt,
        }

    def run(
        self,
        *,
        new: NewJob,
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="The same key gives the same job."),
        ] = None,
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
        if dry_run:
            plan = self._backend.use(
                lambda services: services.jobs.plan(new), needs_engine=bool(new.from_job)
            )
            return self._write(plan, views.show_plan, as_json=as_json)
        key = check_key(idempotency_key)
        job = self._backend.use(lambda services: services.jobs.submit(new, idempotency_key=key))
        self._write(job, _show_start, as_json=as_json)
        return self.watch(job_id=job.job_id or "", as_json=as_json) if follow else Exit.OK

    def jobs(
        self,
        *,
        status: Status = "all",
        cloud: OnCloud = "",
        name: NamePart = "",
        tag: Tag = "",
        model: ModelPart = "",
        since: Since = "",
        limit: Annotated[
            int, typer.Option("--limit", min=1, max=100, help="Jobs to list at most.")
        ] = 20,
        cursor: Cursor = None,
        as_json: AsJson = False,
    ) -> Exit:
        """List jobs, the newest first."""
        wanted = JobFilter.read(
            status=status, cloud=cloud, name=name, tag=tag, model=model, since=since
        )
        page = self._backend.use(
            lambda services: services.jobs.list(wanted, limit=limit, cursor=cursor)
        )
        return self._write(page, views.show_jobs, as_json=as_json)

    def show(self, *, job_id: JobId, as_json: AsJson = False) -> Exit:
        """Show everything about a job."""
        status = self._backend.use(lambda services: services.jobs.status(job_id))
        return self._write(status, views.show_status, as_json=as_json)

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

        async def read(services: Services) -> JobLogs:
            jobs = services.jobs
            page = await jobs.logs(job_id, lines=lines, cursor=cursor, grep=grep)
            show(page)
            if not follow:
                return page
            patience = Patience(self._output)
            patience.note_answer()
            return await follow_log(jobs, page, grep=grep, show=show, patience=patience)

        page = self._backend.use(read)
        if not (as_json or follow):
            self._output.note(page.summary)
        return Exit.OK

    def watch(self, *, job_id: JobId, as_json: AsJson = False) -> Exit:
        """Follow a job to its end: state, step, loss and time left.

        Ctrl-C stops watching and leaves the job running.
        """
        try:
            with display_of(self._output, as_json=as_json) as show:
                patience = Patience(self._output)
                status = self._backend.use(
                    lambda services: watch(services.jobs, job_id, show=show, patience=patience)
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
        status = self._backend.use(lambda services: services.jobs.retry(job_id, resume=not fresh))
        return self._write(status, views.show_change, as_json=as_json)

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
        adopted = self._backend.use(lambda services: services.jobs.adopt(job))
        return self._write(adopted, _show_adopted, as_json=as_json)


def _show_start(job: Submission, output: Output) -> None:
    output.text(job.job_id or "")
    output.note(f"{job.name} is {job.state}" + (f"; {job.url}" if job.url else ""))
    views.show_warnings(job.warnings, output)


def _show_adopted(adopted: Adoption, output: Output) -> None:
    output.text(adopted.job_id)
    output.note(adopted.summary)
