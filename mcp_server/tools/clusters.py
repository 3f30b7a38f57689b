"""The tools that work on clusters."""

from typing import Annotated, Any, Final

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, Field

from flows.core.errors import ConfirmationRequired
from flows.core.models import ClusterList
from mcp_server.services.clusters import ClusterChange, ClusterService
from mcp_server.services.machines import MachineList, MachineService
from mcp_server.tools.edge import always, make_tool
from mcp_server.tools.elicitation import can_ask

CONFIRMATION: Final = "DOWN"

Cloud = Annotated[str, Field(min_length=1, max_length=64, description="Oumi cloud.")]
ClusterName = Annotated[
    str, Field(min_length=1, max_length=128, description="Name from list_clusters.")
]
AnyCloud = Annotated[str, Field(max_length=64, description="Empty: every cloud.")]


class Consent(BaseModel):
    """A person's answer before a cluster is destroyed."""

    destroy: bool = Field(description="Destroy it. This cannot be undone.")


class StopConsent(BaseModel):
    """A person's answer before the jobs of a local cluster are cancelled."""

    stop: bool = Field(description="Cancel these jobs.")


class ClusterTools:
    """The methods are the tools.

    Args:
        clusters: Use cases of clusters.
        machines: Use cases of the machines that run jobs.
    """

    def __init__(self, clusters: ClusterService, machines: MachineService) -> None:
        self._clusters = clusters
        self._machines = machines

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(self.list_clusters, title="List clusters", open_world=True),
            make_tool(self.list_machines, title="List machines"),
            make_tool(
                self._stop_cluster(),
                title="Stop a cluster",
                destructive=True,
                open_world=True,
                changes=always,
            ),
            make_tool(
                self._down_cluster(),
                title="Destroy a cluster",
                destructive=True,
                open_world=True,
                changes=always,
            ),
        ]

    async def list_clusters(self, *, cloud: AnyCloud = "") -> ClusterList:
        """List clusters: state, live jobs, uptime and costs, where known.

        unavailable lists clouds that did not answer.
        """
        return await self._clusters.list(cloud)

    async def list_machines(self) -> MachineList:
        """List the workers that run jobs, by pool."""
        return await self._machines.list()

    def _stop_cluster(self) -> Any:
        """Make the tool, and its question about live jobs of this machine."""

        async def ask(
            ctx: Context[Any],
            cloud: str,
            cluster_name: str,
            confirm: bool,  # noqa: FBT001 - the tool's argument
        ) -> Elicit[StopConsent] | StopConsent:
            if confirm and not can_ask(ctx):
                return StopConsent(stop=True)
            preview = await self._clusters.preview_stop(cloud, cluster_name)
            if preview is None or not can_ask(ctx):
                return StopConsent(stop=preview is None)
            return Elicit(f"{preview.summary} Cancel them?", StopConsent)

        async def stop_cluster(
            *,
            ctx: Context[Any],
            cloud: Cloud,
            cluster_name: ClusterName,
            consent: Annotated[ElicitationResult[StopConsent], Resolve(ask)],
            confirm: Annotated[bool, Field(description="For local: cancel its live jobs.")] = False,
        ) -> ClusterChange:
            """Stop a cluster: its machines cost nothing, its disks stay, its jobs are lost.

            A local cluster is only its jobs: asks before it cancels them, or needs confirm=true.
            Takes minutes: call again until done.
            """
            if isinstance(consent, AcceptedElicitation) and consent.data.stop:
                return await self._clusters.stop(cloud, cluster_name)
            if can_ask(ctx):
                raise ConfirmationRequired(
                    f"The person did not agree to cancel the jobs of cluster {cluster_name} on "
                    f"{cloud}, and nothing was changed",
                    "Keep the jobs unless they ask again",
                )
            preview = await self._clusters.preview_stop(cloud, cluster_name)
            if preview is None:  # the last of them has ended since
                return await self._clusters.stop(cloud, cluster_name)
            what_to_do = "Nothing was changed. If the person agrees, call again with confirm=true."
            return preview.model_copy(update={"summary": f"{preview.summary} {what_to_do}"})

        return stop_cluster

    def _down_cluster(self) -> Any:
        """Make the tool, and the question it asks, which needs `self`."""

        async def ask(
            ctx: Context[Any],
            cloud: str,
            cluster_name: str,
            confirm: bool,  # noqa: FBT001 - the tool's argument
            user_confirmation: str,
        ) -> Elicit[Consent] | Consent:
            if not can_ask(ctx):
                return Consent(destroy=confirm and user_confirmation == CONFIRMATION)
            preview = await self._clusters.preview_down(cloud, cluster_name)
            return Elicit(f"{preview.summary} Destroy it?", Consent)

        async def down_cluster(
            *,
            ctx: Context[Any],
            cloud: Cloud,
            cluster_name: ClusterName,
            consent: Annotated[ElicitationResult[Consent], Resolve(ask)],
            confirm: Annotated[bool, Field(description="Only if the person asked for it.")] = False,
            user_confirmation: Annotated[
                str, Field(max_length=20, description='"DOWN", from the person.')
            ] = "",
        ) -> ClusterChange:
            """Destroy a cluster with its disks and jobs. IRREVERSIBLE.

            Asks the person if the client can; else returns a preview, also of results not
            collected, unless confirm=true and user_confirmation="DOWN". Takes minutes: call again
            until gone.
            """
            if isinstance(consent, AcceptedElicitation) and consent.data.destroy:
                return await self._clusters.down(cloud, cluster_name)
            if can_ask(ctx):
                raise ConfirmationRequired(
                    f"The person did not agree to destroy cluster {cluster_name} on {cloud}, and "
                    "nothing was changed",
                    "Keep the cluster unless they ask again",
                )
            preview = await self._clusters.preview_down(cloud, cluster_name)
            what_to_do = (
                "Nothing was changed. If the person agrees, call again with confirm=true and "
                f'user_confirmation="{CONFIRMATION}".'
            )
            return preview.model_copy(update={"summary": f"{preview.summary} {what_to_do}"})

        return down_cluster
