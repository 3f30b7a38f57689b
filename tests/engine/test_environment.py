from datetime import timedelta
from pathlib import Path

import pytest
from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

from flows.core.settings import Settings
from mcp_server.engine.environment import (
    client_environment,
    server_environment,
    worker_environment,
)
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.values import Connection

CONNECTION = Connection(
    api_url="http://127.0.0.1:1/api", auth_string="a:b", ui_url="http://127.0.0.1:1", embedded=True
)
FILES = EngineFiles(Settings(home=Path("/home/me")))


def test_a_persons_prefect_settings_do_not_steer_the_embedded_server() -> None:
    theirs = {
        "PATH": "/bin",
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql://theirs",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql://theirs",
        "PREFECT_PROFILE": "theirs",
    }

    ours = server_environment(CONNECTION, FILES, theirs)

    assert ours["PATH"] == "/bin"
    assert not any("theirs" in value for value in ours.values())
    assert ours["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:1"


def test_the_worker_inherits_settings_but_not_the_mcp_servers_token() -> None:
    settings = Settings(home=Path("/home/me"), local_slots=3, http_token="secret")

    ours = worker_environment(
        CONNECTION, FILES, {"OUMI_FLOWS_HTTP_TOKEN": "secret", "AWS_PROFILE": "me"}, settings
    )

    assert "secret" not in ours.values()
    assert ours["AWS_PROFILE"] == "me"
    assert ours["OUMI_FLOWS_HOME"] == "/home/me"
    assert ours["OUMI_FLOWS_LOCAL_SLOTS"] == "3"
    assert ours["PREFECT_WORKER_QUERY_SECONDS"] == "0.5"
    assert ours["DO_NOT_TRACK"] == ours["SKYPILOT_DISABLE_USAGE_COLLECTION"] == "1"


def test_requests_to_the_loopback_are_kept_from_a_proxy() -> None:
    theirs = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "intranet"}

    ours = client_environment(CONNECTION, FILES, theirs)

    assert ours["no_proxy"] == ours["NO_PROXY"] == "intranet,127.0.0.1,localhost,::1"
    assert "no_proxy" not in client_environment(CONNECTION, FILES, {})


@pytest.mark.parametrize(
    ("days", "kept", "what"),
    [
        (30.0, timedelta(days=30), {"events", "flow_runs", "orphans"}),
        (0.01, timedelta(seconds=3601), {"events", "flow_runs", "orphans"}),
        (0, timedelta(days=90), {"events"}),
    ],
)
def test_the_server_removes_old_runs_after_the_days_that_a_person_chose(
    days: float, kept: timedelta, what: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server_environment(CONNECTION, FILES, {}, keep_days=days).items():
        monkeypatch.setenv(name, value)
    vacuum = ServerServicesDBVacuumSettings()
    assert vacuum.retention_period == kept
    assert vacuum.enabled_vacuum_types == what
