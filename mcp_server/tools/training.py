"""The tools that show what a training learns and how it does."""

from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.core.diagnosis.findings import Diagnosis
from flows.core.numbers import COUNT_MAX
from flows.core.training.values import POINTS
from flows.core.training_data.preview import MOST_ROWS, DataPreview, Split
from mcp_server.services.data_preview import DataPreviewService
from mcp_server.services.training.diagnosis import DiagnosisService
from mcp_server.services.training.metrics import MetricsAnswer, MetricsQuery, MetricsService
from mcp_server.tools.checks import Config, Folder
from mcp_server.tools.edge import make_tool
from mcp_server.tools.jobs import JobId


class TrainingTools:
    """The methods are the tools.

    Args:
        metrics: Metrics of jobs.
        diagnosis: What is wrong with them.
        data: Their training data.
    """

    def __init__(
        self, metrics: MetricsService, diagnosis: DiagnosisService, data: DataPreviewService
    ) -> None:
        self._metrics = metrics
        self._diagnosis = diagnosis
        self._data = data

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(self.get_job_metrics, title="Metrics of jobs"),
            make_tool(self.diagnose_job, title="Diagnose a training"),
            make_tool(self.preview_data, title="Preview training data", open_world=True),
        ]

    async def get_job_metrics(
        self,
        *,
        job_ids: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=200)]],
            Field(min_length=1, max_length=5, description="Jobs, as job_id elsewhere."),
        ],
        keys: Annotated[
            list[Annotated[str, Field(max_length=200)]],
            Field(max_length=20, description="Metrics; empty: the main ones."),
        ] = [],  # noqa: B006 - read only
        points: Annotated[
            int, Field(ge=4, le=2000, description="Most points of each series.")
        ] = POINTS,
        since_step: Annotated[
            int | None, Field(ge=0, le=COUNT_MAX, description="First step.")
        ] = None,
        image: Annotated[bool, Field(description="Add a chart (PNG).")] = True,
    ) -> MetricsAnswer:
        """Read and draw the curves of jobs: loss, learning rate, evaluations, etc.

        Each with first, last, min, max, best and a thinned series that keeps spikes.
        """
        query = MetricsQuery(keys=keys, points=points, since_step=since_step)
        return await self._metrics.read(job_ids, query, draw=image)

    async def diagnose_job(self, *, job_id: JobId) -> Diagnosis:
        """Find what is wrong with a running or failed job, why, and what to try first.

        Use it when health is not ok, and after every failure.
        """
        return await self._diagnosis.diagnose(job_id)

    async def preview_data(
        self,
        *,
        config: Config,
        client_cwd: Folder,
        split: Annotated[Split, Field(description="Which data.")] = "train",
        rows: Annotated[int, Field(ge=0, le=MOST_ROWS, description="Rows to show.")] = 3,
    ) -> DataPreview:
        """Show training rows as the model will see them, and count defects.

        The loss covers only the text between ⟦ and ⟧. Use it before training on new data.
        """
        return await self._data.preview(config, client_cwd=client_cwd, split=split, rows=rows)
