"""The page of a job in the Prefect UI: how it ended and why first, then what it is."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Final

import httpx
from prefect.exceptions import PrefectException

from flows.core.models import JobRequest
from flows.core.names import COMMAND_TAG
from flows.job.outcome import Outcome
from flows.job.run_artifact import RunArtifact
from flows.job.run_record import RunRecord

_SECONDS: Final = 2.0
"""How long the end of a job waits for its page at most."""
_LONGEST: Final = 1000

logger = logging.getLogger("prefect.oumi.summary")


class SummaryArtifact:
    """The summary of one job.

    Args:
        record: The job's run.
        request: The job.
    """

    def __init__(self, record: RunRecord, request: JobRequest) -> None:
        self._record = record
        self._request = request
        self._artifact = RunArtifact(record, kind="markdown", prefix="summary")

    async def write(self, outcome: Outcome | None = None) -> None:
        """Write it, unless Prefect does not answer soon; the job does not depend on it.

        Args:
            outcome: How the job ended; None: it has not.
        """
        page = summarize(self._record, self._request, outcome)
        try:
            async with asyncio.timeout(_SECONDS):
                await self._artifact.write(page, description="Summary of the job")
        except (httpx.HTTPError, PrefectException, TimeoutError) as error:
            logger.debug("The summary was not written: %r", error)

    @contextlib.asynccontextmanager
    async def while_running(self) -> AsyncGenerator[None]:
        """Write it while the job is followed, which does not wait for it."""
        writing = asyncio.create_task(self.write())
        try:
            yield
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing


def summarize(record: RunRecord, request: JobRequest, outcome: Outcome | None) -> str:
    """The page as Markdown."""
    run, labels = record.run, record.labels
    state = outcome.reason.job_state if outcome else "running"
    tagged = (tag.removeprefix(COMMAND_TAG) for tag in run.tags if tag.startswith(COMMAND_TAG))
    place = "/".join(filter(None, [request.cloud, labels.cluster_name or request.cluster_name]))
    facts = {
        "config": request.config_path,
        "command": next(tagged, request.command),
        "model": labels.model_name,
        "runs on": place,
        "launcher id": labels.launcher_job_id,
        "attempt": str(labels.attempt or 1),
        "output": labels.output_dir,
        "log": labels.log_path,
        "price": f"{labels.hourly_price:.2f} US dollars an hour" if labels.hourly_price else None,
        "note": labels.note,
    }
    lines = [f"# {_plain(run.name)}: {state}", ""]
    if outcome:
        lines += [f"**{outcome.reason}**: {_plain(outcome.text)}", ""]
    lines += [f"- **{name}** {_code(value)}" for name, value in facts.items() if value]
    linked = {"part of": labels.part_of, "runs again": labels.from_job}
    lines += [f"- **{name}** [{it}](/runs/flow-run/{it})" for name, it in linked.items() if it]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text without an effect in Markdown or HTML."""
    words = " ".join(text.split())[:_LONGEST].replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "\\`*_[]#|!" else char for char in words)


def _code(text: str) -> str:
    return f"`{' '.join(text.split())[:_LONGEST].replace('`', chr(39))}`"
