"""The commands for clusters."""

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from flows.core.errors import ConfirmationRequired
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, Yes, agrees
from mcp_server.services.assembly import Services
from mcp_server.services.clusters import ClusterChange, ClusterService

CONFIRMATION = "DOWN"

Cloud = Annotated[str, typer.Argument(metavar="CLOUD", help="Oumi cloud.")]
ClusterName = Annotated[
    str, typer.Argument(metavar="CLUSTER", help="Its name, as `clusters` lists it.")
]


class ClusterCommands(Commands):
    """The methods are the commands."""

    panel = "Clusters"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {
            "clusters": self.clusters,
            "stop-cluster": self.stop,
            "down-cluster": self.down,
        }

    def clusters(
        self,
        *,
        cloud: Annotated[str, typer.Option("--cloud", help="Only clusters of this cloud.")] = "",
        as_json: AsJson = False,
    ) -> Exit:
        """List clusters: state, live jobs, uptime and cost, where known."""
        listed = self._backend.use(lambda services: services.clusters.list(cloud))
        return self._write(listed, views.show_clusters, as_json=as_json)

    def stop(
        self, *, cloud: Cloud, cluster_name: ClusterName, yes: Yes = False, as_json: AsJson = False
    ) -> Exit:
        """Stop a cluster: its machines stop costing, its disks stay, its jobs are lost."""
        if not yes:
            self._ask_for_jobs(cloud, cluster_name)
        change = self._until_done(lambda clusters: clusters.stop(cloud, cluster_name))
        return self._write(change, views.show_summary, as_json=as_json)

    def down(
        self,
        *,
        cloud: Cloud,
        cluster_name: ClusterName,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Destroy a cluster with its disks and jobs; cannot be undone."""
        if not yes:
            self._ask(cloud, cluster_name)
        change = self._until_done(lambda clusters: clusters.down(cloud, cluster_name))
        return self._write(change, views.show_summary, as_json=as_json)

    def _until_done(
        self, end: Callable[[ClusterService], Awaitable[ClusterChange]]
    ) -> ClusterChange:
        """Call `end` until the cluster has ended; Ctrl-C does not interrupt that."""

        async def until_done(services: Services) -> ClusterChange:
            change = await end(services.clusters)
            if not change.done:
                self._output.note(f"Waiting for the end of cluster {change.cluster_name}.")
            while not change.done:
                change = await end(services.clusters)
            return change

        return self._backend.use(until_done)

    def _ask_for_jobs(self, cloud: str, cluster_name: str) -> None:
        """Ask before ending jobs of this machine."""
        preview = self._backend.use(
            lambda services: services.clusters.preview_stop(cloud, cluster_name)
        )
        if preview is None:
            return
        self._output.note(preview.summary, style="red")
        if not agrees("Cancel them?"):
            raise ConfirmationRequired(
                f"The jobs of cluster {cluster_name} on {cloud} keep running",
                "Give --yes to cancel them without a question",
            )

    def _ask(self, cloud: str, cluster_name: str) -> None:
        preview = self._backend.use(
            lambda services: services.clusters.preview_down(cloud, cluster_name)
        )
        self._output.note(preview.summary, style="red")
        asked = f"Write {CONFIRMATION} to destroy it"
        agreed = sys.stdin.isatty() and typer.prompt(asked, default="", err=True) == CONFIRMATION
        if not agreed:
            raise ConfirmationRequired(
                f"Cluster {cluster_name} on {cloud} was not changed",
                "Give --yes to destroy it without a question",
            )
