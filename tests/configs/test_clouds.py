from typing import Any

import pytest

from flows.core.configs.clouds import CLOUD_KINDS, cloud_kinds, kind_of
from flows.core.configs.clusters import JobPlace, place_of
from flows.core.configs.schema import load_schema
from flows.core.errors import CloudUnavailable, Conflict, InvalidConfig

JOB_ID = "0123abcd-4567-89ef-0123-456789abcdef"


def place(cloud: str, **given: Any) -> JobPlace:
    nothing = {"cluster": "", "user": None, "connections": "", "config_path": "job.yaml"}
    return place_of(cloud, job_id=JOB_ID, **(nothing | given))


def test_every_cloud_of_oumi_is_of_a_known_kind() -> None:
    assert set(cloud_kinds().values()) == set(CLOUD_KINDS)
    assert kind_of("sky-slurm").is_sky
    assert [name for name, kind in cloud_kinds().items() if kind.is_local] == ["local"]
    with pytest.raises(CloudUnavailable, match=r"Use one of aws, azure, .*, slurm"):
        kind_of("gpc")


@pytest.mark.parametrize(
    ("cloud", "given", "expected"),
    [
        ("local", {}, JobPlace("local", None, is_own=False)),
        ("local", {"cluster": "two"}, JobPlace("two", None, is_own=False)),
        ("gcp", {}, JobPlace("oumi-0123abcd4567", None, is_own=True)),
        ("gcp", {"cluster": "mine"}, JobPlace("mine", None, is_own=False)),
        ("modal", {}, JobPlace("oumi-0123abcd4567", None, is_own=True)),
        ("slurm", {"cluster": "a@b.c"}, JobPlace("a@b.c", "a", is_own=False)),
        ("slurm", {"connections": "a@b.c"}, JobPlace("a@b.c", "a", is_own=False)),
        ("slurm", {"connections": "a@b, x@y", "user": "x"}, JobPlace("x@y", "x", is_own=False)),
        ("polaris", {"user": "me"}, JobPlace("prod.me", "me", is_own=False)),
        ("frontier", {"user": "me"}, JobPlace("batch.me", "me", is_own=False)),
        ("perlmutter", {"user": "me"}, JobPlace("regular.me", "me", is_own=False)),
        ("polaris", {"cluster": "debug.me"}, JobPlace("debug.me", "me", is_own=False)),
    ],
)
def test_a_job_gets_a_cluster_on_every_cloud(
    cloud: str, given: dict[str, Any], expected: JobPlace
) -> None:
    assert place(cloud, **given) == expected


@pytest.mark.parametrize(
    ("cloud", "given", "problem"),
    [
        ("slurm", {}, "OUMI_SLURM_CONNECTIONS has none"),
        ("slurm", {"connections": "a@b,x@y"}, "OUMI_SLURM_CONNECTIONS has a@b, x@y"),
        ("slurm", {"connections": "a@b", "user": "x"}, "does not name a Slurm cluster"),
        ("slurm", {"cluster": "b"}, "'b' of cloud 'slurm' is not of the form user@host"),
        ("slurm", {"cluster": "a@-oProxyCommand=x b"}, "not of the form user@host"),
        ("polaris", {}, "has no user"),
        ("polaris", {"cluster": "me"}, "not of the form queue.user"),
        ("polaris", {"cluster": ".me"}, "not of the form queue.user"),
    ],
)
def test_a_cluster_that_cannot_be_told_is_asked_for(
    cloud: str, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidConfig, match=problem.replace(".", r"\.")):
        place(cloud, **given)


@pytest.mark.parametrize(("cloud", "cluster"), [("slurm", "a@b"), ("frontier", "batch.a")])
def test_the_users_of_cluster_and_config_must_agree(cloud: str, cluster: str) -> None:
    with pytest.raises(Conflict, match="names user 'x', but the cluster is of user 'a'"):
        place(cloud, cluster=cluster, user="x")


def test_a_cloud_of_a_class_that_we_do_not_know_costs_no_other() -> None:
    drivers = {**load_schema()["clouds"], "moon": "MoonCloud"}
    assert kind_of("gcp", drivers).is_sky
    assert "moon" not in cloud_kinds(drivers)
    with pytest.raises(
        CloudUnavailable, match="class MoonCloud, which oumi-flows does not support"
    ):
        kind_of("moon", drivers)
