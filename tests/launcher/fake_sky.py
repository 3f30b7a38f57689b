"""A SkyPilot API server in memory, as `SkyBackend` sees it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flows.core.errors import ClusterNotFound, ClusterUnreachable
from flows.launcher.sky.errors import translate_errors
from flows.launcher.sky.server import SkyServer
from flows.launcher.sky.values import SkyCluster, SkyClusterState, SkyJob, SkyRequest

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

CLOUD = "GCP"
JOB_FINISHED = "\x1b[0m\x1b[32m✓ Job finished (status: SUCCEEDED).\x1b[0m\x1b[0m\n"


def lines(count: int) -> list[str]:
    """The first lines of a job's log, as SkyPilot streams them."""
    key = f"oumi-{'0' * 32}-1"
    return [f"\x1b[36m({key}, pid=7)\x1b[0m line {number}\n" for number in range(count)]


class FakeSky(SkyServer):
    """SkyPilot's API server, controlled by its attributes.

    Attributes:
        unreachable: Why every call fails; None: they do not.
        drops_answers: A submission is taken and its answer lost.
        refusal: What the next launch fails with.
        ssh_error: What asking for a cluster's queue fails with.
        dies_at_launch: The server is killed once it was asked for a launch, and restarted; its
            process that launches goes on until `orphan` is called.
        streams: What each look at a log streams, one after another, and the last one again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unreachable: str | None = None
        self.drops_answers = False
        self.refusal: Exception | None = None
        self.ssh_error: Exception | None = None
        self.dies_at_launch = False
        self.stops_clusters = True
        self.streams: list[list[str]] = [[*lines(3), JOB_FINISHED]]
        self.events: dict[str, str] = {}
        self.asked: list[str] = []
        self.known: dict[str, SkyCluster] = {}
        self.jobs: dict[str, list[SkyJob]] = {}
        self.autostops: dict[str, int | None] = {}
        self._requests: dict[str, list[SkyRequest]] = {}
        self._results: dict[str, str] = {}
        self._orphans: list[tuple[str, SkyRequest]] = []
        self._clock = itertools.count(1)

    def check(self, *, within_seconds: float | None = None) -> None:
        self._answer("check")

    def clusters(
        self, names: list[str] | None = None, *, refresh: bool = False
    ) -> list[SkyCluster]:
        self._answer("refresh" if refresh else "clusters")
        return [item for name, item in self.known.items() if names is None or name in names]

    def costs(self) -> dict[str, float]:
        return dict.fromkeys(self.known, 1.5)

    def queue(self, cluster_name: str) -> list[SkyJob] | None:
        self._answer("queue")
        if cluster_name not in self.known:
            raise ClusterNotFound(f"no cluster {cluster_name}", "See list_clusters")
        if self.ssh_error is not None:
            with translate_errors("the jobs"):
                raise self.ssh_error
        if self.known[cluster_name].state is not SkyClusterState.UP:
            return None
        return list(self.jobs[cluster_name])

    def requests(self, cluster_name: str) -> list[SkyRequest]:
        self._answer("requests")
        return list(reversed(self._requests.get(cluster_name, [])))

    def launch(self, job: "JobConfig", cluster_name: str, *, autostop_minutes: int | None) -> str:
        self.autostops[cluster_name] = autostop_minutes
        return self._submit("launch", job, cluster_name)

    def exec(self, job: "JobConfig", cluster_name: str) -> str:
        return self._submit("exec", job, cluster_name)

    def _submit(self, verb: str, job: "JobConfig", cluster_name: str) -> str:
        self._answer(verb)
        request_id = self.remember(verb, cluster_name, task_name=job.name or "", status="RUNNING")
        if self.drops_answers:
            raise ClusterUnreachable("the answer was lost", "oumi-flows asks again by itself")
        return request_id

    def wait_for_launch(self, request_id: str, log_path: Path) -> str:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log_path.write_text("⚙︎ Launching on GCP.\n")
        if self.dies_at_launch:
            self.dies_at_launch = False
            self._orphans.append(self._find(request_id))
            self.forget_requests()
            raise ClusterUnreachable("it was restarted", "oumi-flows asks again by itself")
        if self.refusal is not None:
            self._conclude(request_id, "FAILED")
            with translate_errors("a launch"):
                raise self.refusal
        return self.finish(request_id)

    def finish(self, request_id: str) -> str:
        """The cluster is up and the job is in its queue, once however often this is called."""
        if request_id in self._results:
            return self._results[request_id]
        cluster_name, request = self._find(request_id)
        self._results[request_id] = self._add_job(cluster_name, request.task_name)
        self._conclude(request_id, "SUCCEEDED")
        return self._results[request_id]

    def orphan(self, *, status: str = "RUNNING") -> str:
        """What launched before the server was killed ends its work; the id of its job."""
        cluster_name, request = self._orphans.pop()
        return self._add_job(cluster_name, request.task_name, status=status)

    def _add_job(self, cluster_name: str, name: str, *, status: str = "RUNNING") -> str:
        self.up(cluster_name)
        jobs = self.jobs[cluster_name]
        job_id = str(len(jobs) + 1)
        jobs.append(SkyJob(job_id=job_id, name=name, status=status, started=status != "INIT"))
        self.events.setdefault(cluster_name, "All nodes up; SkyPilot runtime healthy.")
        return job_id

    def last_event(self, cluster_name: str) -> str | None:
        self._answer("history")
        return self.events.get(cluster_name)

    def result(self, request_id: str) -> str:
        return self._results[request_id]

    def cancel(self, cluster_name: str, job_id: str) -> None:
        self._answer("cancel")
        self.set_status(cluster_name, job_id, "CANCELLED")

    def log(self, cluster_name: str, job_id: str) -> Iterator[str]:
        self._answer("log")
        yield from self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]

    def write_ssh_config(self, cluster_name: str) -> None:
        self._answer("ssh")

    def can_stop(self, job: "JobConfig") -> bool:
        return self.stops_clusters

    def cloud_names(self) -> dict[str, str]:
        return {"GCP": "gcp", "Slurm": "sky-slurm"}

    def stop(self, cluster_name: str) -> None:
        self._end("stop", cluster_name)

    def down(self, cluster_name: str) -> None:
        self._end("down", cluster_name)

    def _end(self, verb: str, cluster_name: str) -> None:
        self._answer(verb)
        if self.refusal is not None:
            raise self.refusal
        self.remember(verb, cluster_name)
        if verb == "down":
            self.gone(cluster_name)
        elif self.stops_clusters:
            self.up(cluster_name, SkyClusterState.STOPPED)

    def up(self, cluster_name: str, state: SkyClusterState = SkyClusterState.UP) -> None:
        """The cluster is there."""
        self.known[cluster_name] = SkyCluster(
            name=cluster_name, cloud=CLOUD, state=state, launched_at=0.0, autostop=-1
        )
        self.jobs.setdefault(cluster_name, [])

    def gone(self, cluster_name: str) -> None:
        """The cluster is not there any more."""
        del self.known[cluster_name]

    def taken_away(self, cluster_name: str) -> None:
        """The cloud has ended the cluster, and SkyPilot has noticed."""
        self.gone(cluster_name)
        self.events[cluster_name] = "All nodes terminated, cleaning up the cluster."

    def forget_requests(self) -> None:
        """As a restart of the server does."""
        self._requests.clear()

    def set_status(self, cluster_name: str, job_id: str, status: str) -> None:
        """The job is somewhere else now."""
        jobs = self.jobs[cluster_name]
        jobs[int(job_id) - 1] = jobs[int(job_id) - 1].model_copy(update={"status": status})

    def remember(
        self, verb: str, cluster_name: str, *, task_name: str = "", status: str = "SUCCEEDED"
    ) -> str:
        """A request was sent to it."""
        number = next(self._clock)
        request = SkyRequest(
            request_id=f"r{number}",
            verb=verb,
            status=status,
            created_at=float(number),
            task_name=task_name,
        )
        self._requests.setdefault(cluster_name, []).append(request)
        return request.request_id

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.unreachable is not None:
            raise ClusterUnreachable(self.unreachable, "oumi-flows asks again by itself")

    def _find(self, request_id: str) -> tuple[str, SkyRequest]:
        return next(
            (name, request)
            for name, requests in self._requests.items()
            for request in requests
            if request.request_id == request_id
        )

    def _conclude(self, request_id: str, status: str) -> None:
        name, request = self._find(request_id)
        requests = self._requests[name]
        requests[requests.index(request)] = request.model_copy(update={"status": status})
