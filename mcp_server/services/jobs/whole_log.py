"""Reads a job's log whole, within bounds."""

from typing import Final, Protocol

from mcp_server.services.jobs.logs import START
from mcp_server.services.jobs.results import JobLogs

_LINES: Final = 2000
"""Lines of a page; a page has 80 kB at most."""
_WHOLE: Final = 400_000
"""Characters up to which a log is given whole."""


class _Logs(Protocol):
    async def logs(self, reference: str, *, lines: int, cursor: str | None = None) -> JobLogs: ...


async def read_whole_log(jobs: _Logs, reference: str) -> str:
    """Read the output of all attempts of a job.

    Args:
        jobs: The jobs.
        reference: Id, unique id prefix or name.

    Returns:
        The log; of one longer than 400,000 characters its beginning and its end, 80 kB each at
        most, and a line between them that says so.
    """
    pages: list[str] = []
    cursor: str | None = START
    while sum(map(len, pages)) <= _WHOLE:
        page = await jobs.logs(reference, lines=_LINES, cursor=cursor)
        if page.lines_returned:
            pages.append(page.logs)
        if page.at_end or not page.lines_returned or page.next_cursor in (None, cursor):
            return "\n".join(pages)
        cursor = page.next_cursor
    end = await jobs.logs(reference, lines=_LINES)
    path = f"; the whole log is at {end.log_path}" if end.log_path else ""
    cut = f"[oumi-flows: the middle of this log was left out{path}; get_job_logs reads it in pages]"
    return "\n".join([pages[0], cut, end.logs])
