"""Whether a cloud can be used, by an API server in memory."""

import pytest

from flows.core.errors import CloudUnavailable
from flows.core.findings import CloudReadiness
from flows.launcher.sky.errors import NoServer
from flows.launcher.sky.readiness import SkyReadiness
from tests.launcher.fake_sky import FakeSky


class Sky(FakeSky):
    """A server that has found some clouds usable, and finds others when it looks again."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled: set[str] = set()
        self.usable: set[str] = set()
        self.fails: Exception | None = None

    def cloud_name(self, cloud: str) -> str:
        return cloud.upper()

    def enabled_clouds(self) -> set[str]:
        self._answer("enabled")
        if self.fails is not None:
            raise self.fails
        return self.enabled

    def check_cloud(self, name: str) -> bool:
        self._answer("check_cloud")
        return name in self.usable


@pytest.fixture
def sky() -> Sky:
    return Sky()


def test_a_cloud_that_is_known_to_work_is_not_asked(sky: Sky) -> None:
    sky.enabled = {"GCP", "AWS"}
    assert SkyReadiness(sky).readiness("gcp") == CloudReadiness(
        target_cloud="gcp", target_cloud_ready=True, enabled_clouds=["AWS", "GCP"]
    )
    assert "check_cloud" not in sky.asked


def test_a_cloud_that_is_not_known_to_work_is_looked_at(sky: Sky) -> None:
    sky.usable = {"GCP"}
    assert SkyReadiness(sky).readiness("gcp").target_cloud_ready is True
    refused = SkyReadiness(sky).readiness("aws")
    assert (refused.target_cloud_ready, refused.reason) == (
        False,
        "SkyPilot has no working credentials for AWS",
    )


def test_a_server_that_does_not_answer_says_nothing_of_the_cloud(sky: Sky) -> None:
    sky.unreachable = "the server is away"
    found = SkyReadiness(sky).readiness("gcp")
    assert found == CloudReadiness(target_cloud="gcp", reason="the server is away")


def test_a_defect_of_skypilot_says_nothing_of_the_cloud(sky: Sky) -> None:
    sky.fails = KeyError("clouds")
    found = SkyReadiness(sky).readiness("gcp")
    assert (found.target_cloud_ready, found.reason) == (None, "SkyPilot: 'clouds'")


def test_a_server_that_does_not_run_says_nothing_of_the_cloud_and_can_be_started(
    sky: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(**_: object) -> None:
        raise NoServer("no SkyPilot API server runs", "Start one with `sky api start`")

    monkeypatch.setattr(sky, "check", check)
    assert SkyReadiness(sky).readiness("gcp") == CloudReadiness(
        target_cloud="gcp",
        reason="no SkyPilot API server runs",
        next_step="Start one with `sky api start`",
    )


def test_a_server_that_refuses_us_is_an_error(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(**_: object) -> None:
        raise CloudUnavailable("the server asks for a login", "Log in")

    monkeypatch.setattr(sky, "check", check)
    found = SkyReadiness(sky).readiness("gcp")
    assert (found.target_cloud_ready, found.reason) == (
        False,
        "the server asks for a login. Log in.",
    )
