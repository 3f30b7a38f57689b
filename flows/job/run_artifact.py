"""An artifact that a flow run has once, and that is written again and again."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)

from flows.job.prefect_calls import create_artifact, update_artifact
from flows.job.run_record import RunRecord


class RunArtifact:
    """One artifact of a run.

    Args:
        record: The run.
        kind: Type of the artifact in Prefect: ``progress`` or ``markdown``.
        prefix: The artifact's key is this and the id of the run.
    """

    def __init__(self, record: RunRecord, *, kind: str, prefix: str) -> None:
        self._record = record
        self._kind = kind
        self._key = f"{prefix}-{record.run.id}"
        self._id: UUID | None = None

    async def write(
        self,
        data: Any,
        *,
        description: str,
        metadata: dict[str, str] | None = None,
        client: PrefectClient | None = None,
    ) -> None:
        """Create or update the artifact.

        Args:
            data: Its content.
            description: Markdown beside it.
            metadata: Facts for programs.
            client: Prefect's API; None: the client that the run uses.

        Raises:
            httpx.HTTPError: Prefect did not answer.
        """
        client = client or self._record.client
        if self._id is None:
            self._id = await self._find(client)
        if self._id is None:
            artifact = ArtifactCreate(
                key=self._key,
                type=self._kind,
                data=data,
                description=description,
                metadata_=metadata,
                flow_run_id=self._record.run.id,
            )
            self._id = await create_artifact(client, artifact)
        else:
            changes = ArtifactUpdate(data=data, description=description, metadata_=metadata)
            await update_artifact(client, self._id, changes)

    async def _find(self, client: PrefectClient) -> UUID | None:
        """Find the artifact of an earlier attempt, or of a worker that had the run before."""
        run = self._record.run
        if run.run_count <= 1:
            return None
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
                key=ArtifactFilterKey(any_=[self._key]),
            ),
            limit=1,
        )
        return found[0].id if found else None
