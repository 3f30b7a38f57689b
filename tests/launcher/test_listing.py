"""Listing every cloud's clusters: one that hangs holds up no other."""

import threading
import time
from collections.abc import Generator
from typing import Any, cast

import pytest

from flows.core.errors import ClusterUnreachable
from flows.core.models import ClusterState, ClusterStatus
from flows.core.settings import Settings
from flows.launcher.cloud_backend import CloudBackend
from flows.launcher.lasting_clusters import LastingClusters
from flows.launcher.oumi_launcher import OumiLauncher
from flows.launcher.port import Observation
from flows.launcher.sky.clusters import SkyClusters
from tests.launcher.fake_sky import FakeSky

LONG_SECONDS = 30.0
"""Of a test that would wait for what hangs."""


class Backend:
    """A cloud in memory, which answers once its gate is open."""

    def __init__(self, cloud: str, gate: threading.Event | None = None) -> None:
        self.server = cloud
        self.asked = 0
        self._gate = gate

    def clusters(self) -> list[ClusterStatus]:
        self.asked += 1
        if self._gate is not None:
            self._gate.wait()
        return [ClusterStatus(cloud=self.server, cluster_name="c", state=ClusterState.UP)]


@pytest.fixture
def gate() -> Generator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def launcher(
    clouds: dict[str, Backend], *, seconds: float = 2.0, stuck: Any = None
) -> OumiLauncher:
    def make(cloud: str, _: Settings) -> CloudBackend:
        if cloud == "stuck":
            stuck.wait()
        return cast("CloudBackend", clouds[cloud])

    names = [*clouds, *(["stuck"] if stuck else [])]
    return OumiLauncher(
        Settings(), make_backend=make, list_clouds=lambda: names, listing_seconds=seconds
    )


async def test_a_cloud_that_hangs_is_named_and_the_others_are_listed(gate: threading.Event) -> None:
    clouds = {"fast": Backend("fast"), "hung": Backend("hung", gate), "other": Backend("other")}
    began = time.monotonic()
    listed = await launcher(clouds).clusters("")
    assert time.monotonic() - began < LONG_SECONDS
    assert [cluster.cloud for cluster in listed.clusters] == ["fast", "other"]
    assert list(listed.unavailable) == ["hung"]
    assert "hung did not answer within 2 s" in listed.unavailable["hung"]


async def test_a_cloud_that_is_asked_for_alone_and_hangs_says_so(gate: threading.Event) -> None:
    with pytest.raises(ClusterUnreachable, match=r"hung did not answer within 2 s"):
        await launcher({"hung": Backend("hung", gate)}).clusters("hung")


async def test_a_cloud_that_cannot_even_be_set_up_in_time_is_named(gate: threading.Event) -> None:
    listed = await launcher({"fast": Backend("fast")}, stuck=gate).clusters("")
    assert [cluster.cloud for cluster in listed.clusters] == ["fast"]
    assert list(listed.unavailable) == ["stuck"]


async def test_a_cloud_that_hangs_is_asked_once_however_often_it_is_listed(
    gate: threading.Event,
) -> None:
    hung = Backend("hung", gate)
    several = launcher({"hung": hung}, seconds=0.2)
    before = threading.active_count()
    for _ in range(8):
        assert list((await several.clusters("")).unavailable) == ["hung"]
    assert hung.asked == 1
    assert threading.active_count() - before <= 2


async def test_an_answer_that_came_late_is_there_for_the_next_call(gate: threading.Event) -> None:
    hung = Backend("hung", gate)
    several = launcher({"hung": hung}, seconds=0.05)
    assert (await several.clusters("")).clusters == []
    gate.set()
    patient = launcher({"hung": hung}, seconds=LONG_SECONDS)
    patient._listings = several._listings
    (cluster,) = (await patient.clusters("")).clusters
    assert (cluster.cloud, hung.asked) == ("hung", 1)


class Hosts(LastingClusters):
    """Slurm hosts of which one hangs."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__("slurm")
        self._gate = gate
        self.looks: list[str] = []

    def cluster_names(self) -> list[str]:
        return ["me@fast", "me@hung"]

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        self.looks.append(cluster_name)
        if cluster_name == "me@hung":
            self._gate.wait()
        return {}


def test_a_host_that_hangs_holds_no_more_than_one_thread(gate: threading.Event) -> None:
    hosts = Hosts(gate)
    for _ in range(2):
        assert [host.live_jobs for host in hosts.clusters()] == [[], None]
    assert hosts.looks.count("me@hung") == 1
    assert hosts.looks.count("me@fast") == 2


def test_a_sky_cluster_that_hangs_is_listed_without_its_jobs(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky = FakeSky()
    for name in ("c1", "c2"):
        sky.up(name)
    queue = sky.queue
    monkeypatch.setattr(sky, "queue", lambda name: gate.wait() if name == "c2" else queue(name))
    clusters = SkyClusters(sky, timeout_seconds=0.0)
    assert [cluster.live_jobs for cluster in clusters.list_all()] == [[], None]
