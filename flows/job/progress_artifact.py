"""The one progress artifact of a flow run, which the Prefect UI and the MCP server show."""

from datetime import datetime
from typing import Final

from flows.core.models import JobProgress
from flows.job.insight import Insight
from flows.job.run_artifact import RunArtifact
from flows.job.run_record import RunRecord

_METADATA_LIMIT: Final = 500
"""Longest artifact metadata value the server keeps (prefect 3.8)."""


class ProgressArtifact:
    """The progress of one run.

    Args:
        record: The run.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._artifact = RunArtifact(record, kind="progress", prefix="job")

    async def show(
        self,
        progress: JobProgress,
        *,
        observed_at: datetime,
        unreachable: str | None,
        insight: Insight | None = None,
    ) -> None:
        """Create or update the artifact, which names its attempt.

        Raises:
            httpx.HTTPError: Prefect did not answer.
        """
        known = progress.model_dump(exclude_none=True, exclude={"percent"})
        metadata = {key: str(value) for key, value in known.items()} | {
            "attempt": str(self._record.labels.attempt or 1),
            "observed_at": observed_at.isoformat(),
            "reachable": "false" if unreachable else "true",
        }
        if unreachable:
            metadata["unreachable_reason"] = unreachable[:_METADATA_LIMIT]
        if insight is not None:
            metadata |= insight.as_metadata(limit=_METADATA_LIMIT)
        await self._artifact.write(
            progress.percent or 0.0, description=describe(progress), metadata=metadata
        )


def describe(progress: JobProgress) -> str:
    """One line of Markdown: step, loss, time left."""
    parts: list[str] = []
    if progress.step is not None:
        total = f" of {progress.max_steps}" if progress.max_steps else ""
        parts.append(f"step **{progress.step}**{total}")
    if progress.loss is not None:
        parts.append(f"loss **{progress.loss:.4g}**")
    if progress.eta_seconds is not None:
        parts.append(f"about {progress.eta_seconds:.0f} s left")
    return ", ".join(parts) or "no progress reported yet"
