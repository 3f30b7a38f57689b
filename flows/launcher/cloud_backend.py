"""What one cloud does for the launcher, and which backend speaks for which cloud.

Oumi's registry lists the clouds. The module that defines a cloud there decides its backend. A cloud
without a backend of its own has `OumiBackend`.
"""

import importlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from flows.core.configs.clouds import CLOUD_KINDS
from flows.core.errors import CloudUnavailable
from flows.core.models import ClusterStatus, JobHandle
from flows.core.settings import Settings
from flows.launcher.loading import load_oumi
from flows.launcher.port import Observation, UsageSample
from flows.launcher.remote_files import RemoteFiles


class CloudBackend(Protocol):
    """One cloud, in blocking calls that may come from several threads at once.

    The launcher passes errors of flows.core.errors on unchanged. Any other exception becomes
    `LaunchFailed` in a launch, and `ClusterUnreachable` elsewhere.
    """

    @property
    def server(self) -> str:
        """What answers for the cloud; the clouds of one server are listed in one call."""
        ...

    def reach(self, cluster_name: str) -> None:
        """Check that a job could be submitted to a cluster; change nothing."""
        ...

    def launch(
        self,
        job_config: str,
        *,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job; where the cloud allows it, at most once for a key."""
        ...

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        ...

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id, in one call to it.

        Jobs that ended long ago may be left out: `observe_job` knows them.
        """
        ...

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job, by the most exact means; None if the cluster does not know it."""
        ...

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job."""
        ...

    def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's output from `offset` on; none if there is none."""
        ...

    def read_usage(self, handle: JobHandle) -> UsageSample | None:
        """What a job used, as its cluster's accounting reports; None: it does not."""
        ...

    def files(self, handle: JobHandle, key: str) -> RemoteFiles:
        """How to reach the files of the job launched as `key`."""
        ...

    def clusters(self) -> list[ClusterStatus]:
        """The clusters of every cloud that `server` answers for."""
        ...

    def look_at(self, cluster_name: str) -> None:
        """Check that a cluster exists and can be ended; change nothing."""
        ...

    def stop(self, cluster_name: str) -> None:
        """Stop a cluster; return once it is confirmed as stopped."""
        ...

    def down(self, cluster_name: str) -> None:
        """Destroy a cluster; return once it is confirmed as gone."""
        ...


@runtime_checkable
class PausingBackend(Protocol):
    """A cloud whose jobs can be paused."""

    def set_paused(self, handle: JobHandle, *, paused: bool) -> bool:
        """Freeze the processes of a job, or let them go on; return whether that is done."""
        ...


def known_clouds() -> list[str]:
    """The names of Oumi's clouds."""
    load_oumi()
    from oumi import launcher

    return sorted(launcher.which_clouds())


def make_backend(cloud: str, settings: Settings) -> CloudBackend:
    """The backend of a cloud of Oumi's registry.

    Raises:
        CloudUnavailable: Oumi has no cloud of this name.
    """
    load_oumi()
    from flows.launcher.oumi.backend import OumiBackend

    builder = _builder_of(cloud)
    # Whatever its name, a cloud that another module builds is Oumi's own or a stranger's.
    kinds = (kind for kind in CLOUD_KINDS if kind.builder == builder.__module__)
    kind = next(kinds, None)
    backend = _load(kind.backend) if kind is not None else OumiBackend
    return backend(cloud, settings)


def _builder_of(cloud: str) -> Callable[[], Any]:
    from oumi.core.registry import REGISTRY, RegistryType

    registry: Any = REGISTRY
    builders: dict[str, Callable[[], Any]] = registry.get_all(RegistryType.CLOUD)
    if cloud not in builders:
        raise CloudUnavailable(
            f"there is no cloud named {cloud}", f"Use one of: {', '.join(sorted(builders))}"
        )
    return builders[cloud]


def _load(path: str) -> Callable[[str, Settings], CloudBackend]:
    """Import a backend by its ``module:class``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
