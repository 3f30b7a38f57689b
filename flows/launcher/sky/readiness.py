"""Whether SkyPilot can use a cloud, as its API server reports."""

from flows.core.errors import ClusterUnreachable, OumiFlowsError
from flows.core.findings import CloudReadiness
from flows.launcher.sky.errors import NoServer, SkyFailed, translate_errors
from flows.launcher.sky.server import SkyServer


class SkyReadiness:
    """SkyPilot's clouds.

    Args:
        server: SkyPilot's API server. This class never starts one.
    """

    def __init__(self, server: SkyServer | None = None) -> None:
        self._server = server or SkyServer()

    def readiness(self, cloud: str) -> CloudReadiness:
        """Whether SkyPilot's credentials let it use one of Oumi's clouds. Blocks.

        If SkyPilot does not answer, the readiness is unknown.
        """
        try:
            with translate_errors(f"cloud {cloud}"):
                self._server.check()
                enabled = self._server.enabled_clouds()
                name = self._server.cloud_name(cloud)
                ready = name in enabled or self._server.check_cloud(name)
        except (ClusterUnreachable, NoServer) as error:
            # Nothing was said about the cloud.
            how = error.next_step if isinstance(error, NoServer) else ""
            return CloudReadiness(target_cloud=cloud, reason=error.what, next_step=how)
        except OumiFlowsError as error:
            return CloudReadiness(
                target_cloud=cloud, target_cloud_ready=False, reason=error.sentences
            )
        except SkyFailed as error:
            return CloudReadiness(target_cloud=cloud, reason=f"SkyPilot: {error}")
        return CloudReadiness(
            target_cloud=cloud,
            target_cloud_ready=ready,
            enabled_clouds=sorted(enabled),
            reason="" if ready else f"SkyPilot has no working credentials for {name}",
        )
