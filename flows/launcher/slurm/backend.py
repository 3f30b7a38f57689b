"""Jobs on Slurm clusters, over ssh, exactly once for a launch key.

This does not use Oumi's own Slurm client; comments note what that gets wrong. A cluster is named
``user@host`` as with Oumi, and reached whether or not OUMI_SLURM_CONNECTIONS lists it. So a host
in that list that is down affects only its own jobs.
"""

import os
import re
import secrets
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from flows.core.configs.slurm_checks import check_slurm_job
from flows.core.configs.yaml_text import mapping_of_yaml
from flows.core.errors import (
    CloudUnavailable,
    ClusterNotFound,
    InvalidConfig,
    JobNotFound,
    LaunchFailed,
)
from flows.core.file_names import exists, expand_home, is_folder
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.launcher.first_contact import nothing_submitted
from flows.launcher.lasting_clusters import LastingClusters
from flows.launcher.oumi.backend import read_job
from flows.launcher.port import Observation, UsageSample
from flows.launcher.remote_files import RemoteFiles
from flows.launcher.slurm import queries
from flows.launcher.slurm.script import JOBS_FOLDER, batch_script, sbatch
from flows.launcher.slurm.ssh import LoginNode, NoAccess, Refused
from flows.launcher.slurm.usage import parse_usage, usage_script

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

CONNECTIONS_ENV: Final = "OUMI_SLURM_CONNECTIONS"
_ADDRESS: Final = re.compile(r"\w[\w.-]*@\w[\w.-]*", re.ASCII)
_KEY: Final = re.compile(r"[\w-]+", re.ASCII)


class SlurmBackend(LastingClusters):
    """Oumi's cloud ``slurm``.

    Args:
        cloud: Its name in Oumi's registry.
        settings: The settings of this process.
        node_type: Reaches a login node.
    """

    def __init__(
        self, cloud: str, settings: Settings, *, node_type: type[LoginNode] = LoginNode
    ) -> None:
        super().__init__(cloud)
        self._node_type = node_type
        self._settings = settings

    def reach(self, cluster_name: str) -> None:
        """Open the connection to the login node, or use an open one.

        Raises:
            LaunchFailed: ssh refuses the address or the login node refuses us, for good.
        """
        address = self._address(cluster_name)
        try:
            self._node(address).run(":")
        except NoAccess as error:
            raise LaunchFailed(error.what, error.next_step) from error
        except Refused as error:
            raise LaunchFailed(
                f"{address} does not run commands: {error}",
                f"Check that `ssh {address} squeue` works, then retry the job",
            ) from error

    def launch(
        self,
        job_config: str,
        *,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job, at most once for its key."""
        self.refuse_autostop(autostop_minutes)
        check_slurm_job(mapping_of_yaml(job_config))
        job = read_job(job_config)
        address = self._address(cluster_name)
        _check(job, address=address, key=key)
        node = self._node(address)
        stage = f"stage-{secrets.token_hex(4)}"
        mounts = {_in_home(remote): _local(local) for remote, local in job.file_mounts.items()}
        folders = [
            remote if is_folder(local) else str(PurePosixPath(remote).parent)
            for remote, local in mounts.items()
        ]
        try:
            with nothing_submitted():
                known = _text(node.run(queries.prepare_script(key, stage, folders)))
                if not known:
                    limit = self._settings.launch_timeout_seconds
                    if job.working_dir:
                        folder = f"{JOBS_FOLDER}/{key}/{stage}/"
                        node.copy(_local(job.working_dir), folder, timeout_seconds=limit)
                    for remote, local in mounts.items():
                        node.copy(local, remote, timeout_seconds=limit)
            if not known:
                known = _text(node.run(_submission(job, key=key, stage=stage)))
        except Refused as error:
            raise LaunchFailed(
                f"Slurm at {address} refused the job: {error}",
                "Correct the config and submit it again",
            ) from error
        return self._handle(address, known)

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        if not _KEY.fullmatch(key):
            return None
        address = self._address(cluster_name)
        job_id = _text(self._node(address).run(queries.find_script(key)))
        return self._handle(address, job_id) if job_id else None

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """Observe the user's jobs in Slurm's memory: live ones, and ends of the last minutes."""
        node = self._node(self._address(cluster_name))
        return queries.parse_list(_text(node.run(queries.list_script())))

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """Observe one job, also long after its end; None if the cluster does not know it."""
        if not handle.launcher_job_id.isdecimal():
            return None
        node = self._node(self._address(handle.cluster_name))
        return queries.parse_job(_text(node.run(queries.job_script(handle.launcher_job_id))))

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Request the end of a job; Slurm kills one that ignores SIGTERM after its `KillWait`."""
        seen = self.observe_job(handle)
        if seen is None:
            # scancel reports nothing about an unknown job.
            raise JobNotFound(
                f"Slurm at {handle.cluster_name} knows no job {handle.launcher_job_id}",
                "List the cluster's jobs for their ids",
            )
        if not seen.state.is_terminal:
            node = self._node(self._address(handle.cluster_name))
            node.run(queries.cancel_script(handle.launcher_job_id))

    def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's log from `offset` on; none if there is none."""
        if not handle.launcher_job_id.isdecimal():
            return b""
        node = self._node(self._address(handle.cluster_name))
        return node.run(queries.log_script(handle.launcher_job_id, offset=offset, limit=limit))

    def read_usage(self, handle: JobHandle) -> UsageSample | None:
        """What a job used, as `sstat` or `sacct` reports; None: this cluster keeps no accounts."""
        if not handle.launcher_job_id.isdecimal():
            return None
        node = self._node(self._address(handle.cluster_name))
        return parse_usage(_text(node.run(usage_script(handle.launcher_job_id))))

    def files(self, handle: JobHandle, key: str) -> RemoteFiles:
        """How to reach the folder that the job of `key` runs in."""
        node = self._node(self._address(handle.cluster_name))
        enter = queries.enter_script(key, handle.launcher_job_id)
        return RemoteFiles(node, enter, is_for_one_attempt=True)

    def cluster_names(self) -> list[str]:
        """The clusters that OUMI_SLURM_CONNECTIONS lists."""
        listed = os.environ.get(CONNECTIONS_ENV, "").split(",")
        return [name for name in map(str.strip, listed) if _ADDRESS.fullmatch(name)]

    def _address(self, cluster_name: str) -> str:
        """Find the login node of a cluster; without a name, the only known one.

        Raises:
            CloudUnavailable: None was named and none is known.
            ClusterNotFound: The name is not ``user@host``, or is missing and several are known.
        """
        if _ADDRESS.fullmatch(cluster_name):
            return cluster_name
        known = self.cluster_names()
        if cluster_name in ("", self._cloud):
            if len(known) == 1:
                return known[0]
            if not known:
                raise CloudUnavailable(
                    f"no Slurm cluster was named, and {CONNECTIONS_ENV} lists none",
                    "Give cluster_name as user@host, or set the variable where the worker runs",
                )
        raise ClusterNotFound(
            f"{cluster_name!r} is not a Slurm cluster",
            f"Give user@host: {', '.join(known) or 'any'}",
        )

    def _node(self, address: str) -> LoginNode:
        return self._node_type(address, timeout_seconds=self._settings.launcher_timeout_seconds)

    def _handle(self, address: str, job_id: str) -> JobHandle:
        return JobHandle(cloud=self._cloud, cluster_name=address, launcher_job_id=job_id)


def _check(job: "JobConfig", *, address: str, key: str) -> None:
    if not _KEY.fullmatch(key):
        raise InvalidConfig(f"{key!r} cannot name a Slurm job", "Use letters, digits and dashes")
    if job.user and job.user != address.partition("@")[0]:
        raise InvalidConfig(
            f"user is {job.user}, and the cluster is {address}", "Make the two agree"
        )
    if job.num_nodes < 1:
        raise InvalidConfig(f"num_nodes is {job.num_nodes}", "Set it to 1 or more")
    if job.storage_mounts:
        raise InvalidConfig(
            "storage_mounts cannot be mounted on a Slurm cluster",
            "Remove them and use the paths of the cluster",
        )
    for path in filter(None, [job.working_dir, *job.file_mounts.values()]):
        if not exists(_local(path)):
            raise InvalidConfig(f"{path} does not exist on this machine", "Correct the path")


def _submission(job: "JobConfig", *, key: str, stage: str) -> str:
    from oumi.launcher.clusters import slurm_cluster

    # Only this function of Oumi's client defines what its `resources` mean (oumi 0.9).
    options: dict[str, Any] = vars(slurm_cluster)["_resources_to_sbatch_kwargs"](job.resources)
    return queries.submit_script(
        key,
        stage,
        script=batch_script(key=key, setup=job.setup or "", run=job.run, envs=job.envs),
        sbatch=sbatch(key=key, name=job.name or "", nodes=job.num_nodes, options=options),
    )


def _local(path: str) -> Path:
    return expand_home(path)


def _in_home(remote: str) -> str:
    """Write a path on the cluster for rsync, which does not expand ``~``."""
    for prefix in ("~/", "$HOME/"):
        if remote.startswith(prefix):
            return remote.removeprefix(prefix).rstrip("/") or "."
    return remote.rstrip("/") or "/"


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace").strip()
