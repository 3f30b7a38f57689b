"""The clouds of Oumi, and what is known of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final

from flows.core.configs.schema import load_schema
from flows.core.configs.slurm_checks import check_heredocs, check_slurm_job
from flows.core.errors import CloudUnavailable

LOOK_THERE: Final = "Look there with list_clusters or the cluster's own commands, and end it there."
"""How a person finds a job on a cloud of which no more is known."""


class ClusterName(Enum):
    """What the name of a cluster is."""

    ANY = auto()
    CONNECTION = auto()
    """``user@host``."""
    QUEUE = auto()
    """``queue.user``."""


class Copying(Enum):
    """How a launch copies the working folder to a cluster."""

    NOTHING = auto()
    SKYPILOT = auto()
    """SkyPilot's own rsync, by a .skyignore, else by Git's rules."""
    GITIGNORE_FILTER = auto()
    """rsync with a filter that reads the .gitignore of each folder (oumi 0.9)."""
    GITIGNORE_EXCLUDES = auto()
    """rsync with the .gitignore of the working folder as a list of excludes (oumi 0.9). A final
    slash of the folder matters."""


@dataclass(frozen=True, kw_only=True)
class CloudKind:
    """What is known of the clouds that one class of Oumi drives (oumi 0.9).

    Attributes:
        driver: The name of the class.
        cloud: The one cloud that this describes; empty: every other cloud of the class.
        builder: The module that builds the cloud in Oumi's registry.
        backend: The backend that speaks for the cloud, as ``module:class``.
        is_local: Whether it is the worker's own machine.
        is_sky: Whether SkyPilot provides it.
        cluster_name: What names a cluster.
        default_queue: The queue of a cluster ``queue.user`` if none is named.
        makes_clusters: Whether a launch creates a cluster of any name.
        keeps_clusters: Whether a cluster still exists, and costs money, after its last job ended.
        rents_machines: Whether its machines, and the files on them, come and go with one cluster.
        shares_files: Whether its nodes may share a file system with this machine.
        counts_gpus: Whether GPUs may be requested by a count alone.
        copying: How the working folder gets to it.
        check_scripts: Refuses scripts that it would run wrongly.
        unchecked: What only the cloud itself can check before a launch; ``{cloud}`` is its name.
        where_to_look: How a person finds a job left behind there; ``{cluster}`` is its cluster.
    """

    driver: str
    cloud: str = ""
    builder: str
    backend: str
    is_local: bool = False
    is_sky: bool = False
    cluster_name: ClusterName = ClusterName.ANY
    default_queue: str = ""
    makes_clusters: bool = False
    keeps_clusters: bool = False
    rents_machines: bool = False
    shares_files: bool = False
    counts_gpus: bool = False
    copying: Copying = Copying.GITIGNORE_EXCLUDES
    check_scripts: Callable[[Mapping[str, Any]], None] | None = None
    unchecked: str = "whether {cloud} can be reached and takes the job"
    where_to_look: str = LOOK_THERE


_SKY: Final = CloudKind(
    driver="SkyCloud",
    builder="oumi.launcher.clouds.sky_cloud",
    backend="flows.launcher.sky.backend:SkyBackend",
    is_sky=True,
    makes_clusters=True,
    keeps_clusters=True,
    rents_machines=True,
    copying=Copying.SKYPILOT,
    unchecked="whether {cloud} can be used (its credentials)",
    where_to_look="Look with list_clusters or `sky queue {cluster}`. The cluster may be billed "
    "until down_cluster ends it.",
)

_SLURM_SITE: Final = CloudKind(
    driver="FrontierCloud",
    builder="oumi.launcher.clouds.frontier_cloud",
    backend="flows.launcher.sites.site:SlurmSiteBackend",
    cluster_name=ClusterName.QUEUE,
    default_queue="batch",
    shares_files=True,
    check_scripts=check_heredocs,
)

CLOUD_KINDS: Final = (
    CloudKind(
        driver="LocalCloud",
        builder="flows.launcher.local.oumi_cloud",
        backend="flows.launcher.local.backend:LocalBackend",
        is_local=True,
        copying=Copying.NOTHING,
        unchecked="free disk, memory, GPUs and packages of the worker's machine",
    ),
    _SKY,
    replace(_SKY, cloud="k8s", shares_files=True),
    replace(_SKY, cloud="sky-slurm", shares_files=True, rents_machines=False),
    CloudKind(
        driver="ModalCloud",
        builder="oumi.launcher.clouds.modal_cloud",
        backend="flows.launcher.sites.modal:ModalBackend",
        makes_clusters=True,
        copying=Copying.NOTHING,
        where_to_look="Look at Modal's dashboard; a sandbox is billed while it runs.",
    ),
    CloudKind(
        driver="SlurmCloud",
        builder="oumi.launcher.clouds.slurm_cloud",
        backend="flows.launcher.slurm.backend:SlurmBackend",
        cluster_name=ClusterName.CONNECTION,
        shares_files=True,
        counts_gpus=True,
        copying=Copying.GITIGNORE_FILTER,
        check_scripts=check_slurm_job,
        where_to_look="Look with `ssh {cluster} squeue --me`, and end it with `scancel`.",
    ),
    _SLURM_SITE,
    replace(
        _SLURM_SITE,
        driver="PerlmutterCloud",
        builder="oumi.launcher.clouds.perlmutter_cloud",
        default_queue="regular",
    ),
    replace(
        _SLURM_SITE,
        driver="PolarisCloud",
        builder="oumi.launcher.clouds.polaris_cloud",
        backend="flows.launcher.sites.polaris:PolarisBackend",
        default_queue="prod",
    ),
)
"""Every kind of cloud. A new cloud is a line here, and its backend in flows/launcher."""


def cloud_kinds(drivers: Mapping[str, str] | None = None) -> dict[str, CloudKind]:
    """Every cloud in Oumi's registry whose class oumi-flows supports.

    Args:
        drivers: The class of each cloud; None: those of Oumi's registry.
    """
    kinds = {(kind.driver, kind.cloud): kind for kind in CLOUD_KINDS}
    clouds: Mapping[str, str] = load_schema()["clouds"] if drivers is None else drivers
    found = {
        name: kinds.get((driver, name)) or kinds.get((driver, ""))
        for name, driver in clouds.items()
    }
    return {name: kind for name, kind in found.items() if kind is not None}


def kind_of(cloud: str, drivers: Mapping[str, str] | None = None) -> CloudKind:
    """Find the kind of a cloud.

    Args:
        cloud: Its name.
        drivers: The class of each cloud; None: those of Oumi's registry.

    Raises:
        CloudUnavailable: Oumi has no such cloud.
    """
    known = cloud_kinds(drivers)
    if cloud not in known:
        driver = (load_schema()["clouds"] if drivers is None else drivers).get(cloud)
        raise CloudUnavailable(
            f"Oumi drives cloud {cloud!r} by its class {driver}, which oumi-flows does not support"
            if driver
            else f"Oumi has no cloud named {cloud!r}",
            f"Use one of {', '.join(sorted(known))}",
        )
    return known[cloud]


def find_kind(cloud: str) -> CloudKind | None:
    """Find the kind of a cloud; None if oumi-flows does not support it."""
    return cloud_kinds().get(cloud)


def is_local(cloud: str) -> bool:
    """Whether a cloud is the worker's own machine."""
    kind = find_kind(cloud)
    return kind is not None and kind.is_local


def known_cloud(name: str) -> str:
    """The name of a cloud as Oumi writes it, whatever the case; unchanged if there is none."""
    lowered = name.strip().lower()
    return lowered if lowered in cloud_kinds() else name
