"""SkyPilot's clusters over an API server in memory."""

from pathlib import Path

import pytest
import yaml

from flows.core.errors import ClusterNotFound, ClusterUnreachable
from flows.core.models import ClusterState, ClusterStatus
from flows.core.settings import Settings
from flows.launcher.sky.backend import SkyBackend
from flows.launcher.sky.clusters import STATE_OF_CLUSTER, SkyClusters
from flows.launcher.sky.values import SkyClusterState
from tests.launcher.contract.subjects import new_key
from tests.launcher.fake_sky import FakeSky


@pytest.fixture
def sky() -> FakeSky:
    return FakeSky()


@pytest.fixture
def clusters(sky: FakeSky) -> SkyClusters:
    return SkyClusters(sky, timeout_seconds=0.0, now=lambda: 100.0)


def test_every_state_of_a_cluster_has_one_of_ours() -> None:
    assert set(STATE_OF_CLUSTER) == set(SkyClusterState)
    assert set(STATE_OF_CLUSTER.values()) == set(ClusterState)


def test_clusters_are_listed_with_what_is_known_of_them(
    clusters: SkyClusters, sky: FakeSky, tmp_path: Path
) -> None:
    backend = SkyBackend("gcp", Settings(home=tmp_path), server=sky)
    config = yaml.safe_dump({"resources": {"cloud": "gcp"}, "run": "x"})
    for _ in range(2):
        backend.launch(config, cluster_name="c1", key=new_key())
    sky.set_status("c1", "1", "SUCCEEDED")
    sky.known["c1"] = sky.known["c1"].model_copy(update={"hourly_cost": 2.0, "autostop": 60})
    sky.up("c2", SkyClusterState.INIT)
    sky.up("c3", SkyClusterState.STOPPED)
    first, second, third = clusters.list_all()
    assert first == ClusterStatus(
        cloud="gcp",
        cluster_name="c1",
        state=ClusterState.UP,
        live_jobs=["2"],
        nodes=1,
        hourly_cost=2.0,
        uptime_seconds=100.0,
        cost_so_far=1.5,
        autostop_minutes=60,
    )
    assert (second.state, second.live_jobs, second.uptime_seconds) == (
        ClusterState.LAUNCHING,
        None,
        None,
    )
    assert (third.state, third.live_jobs) == (ClusterState.STOPPED, [])


def test_a_cluster_that_does_not_tell_its_jobs_is_listed_all_the_same(
    clusters: SkyClusters, sky: FakeSky
) -> None:
    sky.up("c1")
    sky.ssh_error = RuntimeError("ssh: connection refused")
    assert [cluster.live_jobs for cluster in clusters.list_all()] == [None]


def test_a_cluster_is_stopped_and_destroyed_and_seen_to_be(
    clusters: SkyClusters, sky: FakeSky
) -> None:
    sky.up("c1")
    clusters.stop("gcp", "c1")
    assert sky.known["c1"].state is SkyClusterState.STOPPED
    clusters.stop("gcp", "c1")
    clusters.down("gcp", "c1")
    assert sky.known == {}
    assert sky.asked.count("refresh") == 2
    assert sky.asked.count("stop") == 1


def test_a_look_changes_nothing_and_asks_the_server_first(
    clusters: SkyClusters, sky: FakeSky
) -> None:
    sky.up("c1")
    clusters.look_at("gcp", "c1")
    assert sky.asked == ["check", "clusters"]
    with pytest.raises(ClusterNotFound, match="no cluster c2 on gcp"):
        clusters.look_at("gcp", "c2")
    sky.unreachable = "away"
    with pytest.raises(ClusterUnreachable, match="away"):
        clusters.look_at("gcp", "c1")
    assert sky.asked[-1] == "check"


def test_an_end_that_did_not_come_is_not_called_one(clusters: SkyClusters, sky: FakeSky) -> None:
    sky.up("c1")
    sky.stops_clusters = False
    with pytest.raises(ClusterUnreachable, match="was asked to stop and is UP"):
        clusters.stop("gcp", "c1")


def test_a_cluster_of_another_cloud_is_left_alone(clusters: SkyClusters, sky: FakeSky) -> None:
    sky.up("c1")
    for cloud, name in (("aws", "c1"), ("gcp", "c2")):
        with pytest.raises(ClusterNotFound, match=f"no cluster {name} on {cloud}"):
            clusters.down(cloud, name)
    assert "down" not in sky.asked
