"""The page of a run in the Prefect UI: how it ended and why first, then what it is."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
from prefect.exceptions import PrefectException

from flows.core.checks.values import mapping_of
from flows.core.configs.processes import ALL
from flows.core.configs.reader import submitted_config
from flows.core.errors import OumiFlowsError
from flows.core.models import JobRequest
from flows.core.names import COMMAND_TAG
from flows.core.run_labels import RunLabels
from flows.core.stopwatch import Instant
from flows.job.outcome import Outcome
from flows.job.run_artifact import RunArtifact
from flows.job.run_record import RunRecord

_SECONDS: Final = 2.0
"""How long the end of a job waits for its page at most."""
_SHORT_SECONDS: Final = 1.0
"""A job that ends before this gets its page only then: each write costs the server."""
_LONGEST: Final = 1000
_PARTS: Final = 100

logger = logging.getLogger("prefect.oumi.summary")


class SummaryArtifact:
    """The summary of one job.

    Args:
        record: The job's run.
        request: The job.
        snapshots_dir: Where configs are kept as submitted.
    """

    def __init__(self, record: RunRecord, request: JobRequest, *, snapshots_dir: Path) -> None:
        self._record = record
        self._request = request
        self._snapshots_dir = snapshots_dir
        self._artifact = RunArtifact(record, kind="markdown", prefix="summary")

    async def write(self, outcome: Outcome | None = None) -> None:
        """Write it, unless Prefect does not answer soon; the job does not depend on it.

        Args:
            outcome: How the job ended; None: it has not.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                gpus = await asyncio.to_thread(describe_gpus, self._request, self._snapshots_dir)
                page = summarize(self._record, self._request, outcome, gpus=gpus)
                await self._artifact.write(page, description="Summary of the job")
        except (httpx.HTTPError, PrefectException, TimeoutError) as error:
            logger.debug("The summary was not written: %r", error)

    @contextlib.asynccontextmanager
    async def while_running(self) -> AsyncGenerator[None]:
        """Write it while the job is followed, which does not wait for it; not for a short one."""
        writing = asyncio.create_task(self._write_soon())
        try:
            yield
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing

    async def _write_soon(self) -> None:
        await asyncio.sleep(_SHORT_SECONDS)
        await self.write()


def summarize(record: RunRecord, request: JobRequest, outcome: Outcome | None, *, gpus: str) -> str:
    """The page of a job as Markdown."""
    run, labels = record.run, record.labels
    tagged = (tag.removeprefix(COMMAND_TAG) for tag in run.tags if tag.startswith(COMMAND_TAG))
    place = "/".join(filter(None, [request.cloud, labels.cluster_name or request.cluster_name]))
    facts = {
        "config": request.config_path,
        "command": next(tagged, request.command),
        "model": labels.model_name,
        "runs on": place,
        "GPUs": gpus,
        "launcher id": labels.launcher_job_id,
        "attempt": str(labels.attempt or 1),
        "output": labels.output_dir,
        "log": labels.log_path,
        "cost": _cost(labels),
        "note": labels.note,
    }
    lines = _opening(record, outcome)
    lines += [f"- **{name}** {_code(value)}" for name, value in facts.items() if value]
    linked = {"part of": labels.part_of, "runs again": labels.from_job}
    lines += [f"- **{name}** {_link(it, it)}" for name, it in linked.items() if it]
    return "\n".join(lines)


def summarize_parts(
    record: RunRecord, rows: Sequence[Mapping[str, Any]], outcome: Outcome | None
) -> str:
    """The page of a pipeline or a sweep as Markdown, with a link to each of its jobs.

    Args:
        record: Its run.
        rows: The rows of its table: `step` or `trial`, `state`, `job_id` and others.
        outcome: How it ended; None: it has not.
    """
    lines = _opening(record, outcome)
    for row in rows[:_PARTS]:
        name, job_id = str(row.get("step") or row.get("trial")), str(row.get("job_id") or "")
        shown = _link(name, job_id) if job_id else _plain(name)
        note = f": {_plain(str(row['note']))}" if row.get("note") else ""
        lines.append(f"- {shown} {_plain(str(row.get('state')))}{note}")
    if len(rows) > _PARTS:
        lines.append(f"- and {len(rows) - _PARTS} more, which the table of parts has")
    return "\n".join(lines)


def _opening(record: RunRecord, outcome: Outcome | None) -> list[str]:
    state = outcome.reason.job_state if outcome else "running"
    lines = [f"# {_plain(record.run.name)}: {state}", ""]
    return [*lines, f"**{outcome.reason}**: {_plain(outcome.text)}", ""] if outcome else lines


def describe_gpus(request: JobRequest, snapshots_dir: Path) -> str:
    """The GPUs that a job asks for, in words; empty: it names none. Blocking."""
    if request.gpus is not None:
        return "all of the machine" if request.gpus == ALL else f"{request.gpus} of the machine"
    try:
        path = Path(request.config_path)
        config = submitted_config(path, request.config_sha256, snapshots_dir)
    except OumiFlowsError:
        return ""
    asked = mapping_of(config.data.get("resources"))
    nodes = config.data.get("num_nodes", 1)
    each = f" on each of {nodes} nodes" if nodes not in (None, 1) else ""
    return f"{asked['accelerators']}{each}" if asked.get("accelerators") else ""


def _cost(labels: RunLabels) -> str | None:
    """What a job costs, in words; None: no price is known."""
    price = labels.hourly_price
    if price is None:
        return None
    words = f"{price:.2f} US dollars an hour"
    if labels.stopwatch is None:
        return words
    total = price * labels.stopwatch.seconds(Instant.now()) / 3600
    return f"{total:.2f} US dollars so far, {words}"


def _link(text: str, run_id: str) -> str:
    return f"[{_plain(text)}](/runs/flow-run/{run_id})"


def _plain(text: str) -> str:
    """Text without an effect in Markdown or HTML."""
    words = " ".join(text.split())[:_LONGEST].replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "\\`*_[]#|!" else char for char in words)


def _code(text: str) -> str:
    return f"`{' '.join(text.split())[:_LONGEST].replace('`', chr(39))}`"
