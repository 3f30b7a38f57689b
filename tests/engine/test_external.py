"""A Prefect server elsewhere: here the embedded one of another home."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from mcp_server.engine import Engine, EngineStatus
from tests.engine.conftest import make_engine
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.engine


@pytest.fixture
def here(home: Path, team: Engine) -> Iterator[Engine]:
    """An engine of this machine that uses the team's server."""
    engine = make_engine(home, environ=team.environment())
    yield engine
    engine.down()


def test_a_server_without_our_deployment_is_not_ready(here: Engine, home: Path) -> None:
    with pytest.raises(EngineUnavailable) as raised:
        here.ensure()

    assert "has no deployment oumi-job/default" in raised.value.what
    assert "oumi-flows up" in raised.value.next_step
    assert not home.exists()


def test_up_applies_the_definition_there_and_starts_a_worker_but_no_server(
    here: Engine, home: Path, team: Engine
) -> None:
    status = here.up(wait_for_worker=False)

    assert (status.problem, status.deployed, status.embedded) == (None, True, False)
    assert status.server.pid is None
    assert not (home / "engine" / "prefect.db").exists()
    eventually_sync(lambda: here.status().worker.online, timeout=30)
    assert here.ensure() == here.connection()

    stopped = here.down()

    assert not stopped.worker.alive
    assert stopped.server.healthy
    assert team.status().server.healthy


@pytest.mark.slow
def test_the_workers_of_two_servers_live_side_by_side(here: Engine, home: Path) -> None:
    here.up(wait_for_worker=False)
    embedded = make_engine(home)
    try:
        embedded.ensure()

        assert here.status().worker.alive
        assert embedded.status().worker.alive
        assert here.status().worker.name != embedded.status().worker.name
    finally:
        embedded.down()
    assert here.status().worker.alive


def test_wrong_credentials_are_told_apart_from_a_server_that_is_gone(
    home: Path, team: Engine
) -> None:
    refused = make_engine(
        home, environ={**team.environment(), "PREFECT_API_AUTH_STRING": "not:this"}
    )
    gone = make_engine(home, environ={"PREFECT_API_URL": "http://127.0.0.1:9/api"})

    with pytest.raises(EngineUnavailable, match="refused our credentials"):
        refused.ensure()
    with pytest.raises(EngineUnavailable, match="did not answer"):
        gone.ensure()
    status: EngineStatus = gone.status()
    assert "did not answer" in str(status.problem)
    assert not status.server.healthy
