"""The one progress artifact of a flow run, which the Prefect UI and the MCP server show."""

from datetime import datetime
from typing import Final
from uuid import UUID

from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)

from flows.core.models import JobProgress
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
        self._client = record.client
        self._id: UUID | None = None

    async def show(
        self, progress: JobProgress, *, observed_at: datetime, unreachable: str | None
    ) -> None:
        """Create or update the artifact, which names its attempt.

        Raises:
            httpx.HTTPError: Prefect did not answer.
        """
        metadata = self._metadata(progress, observed_at=observed_at, unreachable=unreachable)
        data, description = progress.percent or 0.0, describe(progress)
        if self._id is None:
            self._id = await self._find()
        if self._id is None:
            run_id = self._record.run.id
            created = await self._client.create_artifact(
                ArtifactCreate(
                    key=f"job-{run_id}",
                    type="progress",
                    data=data,
                    description=description,
                    metadata_=metadata,
                    flow_run_id=run_id,
                )
            )
            self._id = created.id
        else:
            await self._client.update_artifact(
                self._id, ArtifactUpdate(data=data, description=description, metadata_=metadata)
            )

    def _metadata(
        self, progress: JobProgress, *, observed_at: datetime, unreachable: str | None
    ) -> dict[str, str]:
        known = progress.model_dump(exclude_none=True, exclude={"percent"})
        metadata = {key: str(value) for key, value in known.items()} | {
            "attempt": str(self._record.labels.attempt or 1),
            "observed_at": observed_at.isoformat(),
            "reachable": "false" if unreachable else "true",
        }
        if unreachable:
            metadata["unreachable_reason"] = unreachable[:_METADATA_LIMIT]
        return metadata

    async def _find(self) -> UUID | None:
        run = self._record.run
        if run.run_count <= 1:
            return None
        found = await self._client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
                type=ArtifactFilterType(any_=["progress"]),
            ),
            limit=1,
        )
        return found[0].id if found else None


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
