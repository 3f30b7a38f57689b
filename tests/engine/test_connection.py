from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.engine import Connection, Engine
from tests.engine.conftest import make_engine

PROFILES = """
active = "team"

[profiles.team]
PREFECT_API_URL = "https://team.example/api"
PREFECT_API_KEY = "team-key"

[profiles.mine]
PREFECT_API_URL = "http://mine.example:4200/api/"
PREFECT_API_AUTH_STRING = "me:secret"

[profiles.ephemeral]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = true
"""


def engine_with(tmp_path: Path, environ: dict[str, str]) -> Engine:
    return Engine(Settings(home=tmp_path / "home"), environ={"HOME": str(tmp_path), **environ})


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    path = tmp_path / ".prefect" / "profiles.toml"
    path.parent.mkdir()
    path.write_text(PROFILES)
    return path


def test_a_server_in_the_environment_is_used(tmp_path: Path, profiles: Path) -> None:
    engine = engine_with(
        tmp_path,
        {"PREFECT_API_URL": "http://shared:4200/api", "PREFECT_API_AUTH_STRING": "a:b"},
    )

    assert engine.connection() == Connection(
        api_url="http://shared:4200/api",
        auth_string="a:b",
        ui_url="http://shared:4200",
        embedded=False,
    )


def test_the_active_profile_is_used_when_the_environment_names_no_server(
    tmp_path: Path, profiles: Path
) -> None:
    connection = engine_with(tmp_path, {}).connection()

    assert connection == Connection(
        api_url="https://team.example/api",
        api_key="team-key",
        ui_url="https://team.example",
        embedded=False,
    )
    assert connection.headers == {"Authorization": "Bearer team-key"}


@pytest.mark.parametrize("where", ["PREFECT_PROFILES_PATH", "PREFECT_HOME"])
def test_profiles_are_found_where_prefect_finds_them(
    tmp_path: Path, profiles: Path, where: str
) -> None:
    moved = tmp_path / "elsewhere" / "profiles.toml"
    moved.parent.mkdir()
    profiles.replace(moved)
    value = moved if where == "PREFECT_PROFILES_PATH" else moved.parent

    engine = engine_with(tmp_path, {where: str(value), "PREFECT_PROFILE": "mine"})

    assert engine.connection().api_url == "http://mine.example:4200/api"
    assert engine.connection().headers == {"Authorization": "Basic bWU6c2VjcmV0"}


def test_a_profile_without_a_server_means_the_embedded_engine(
    tmp_path: Path, profiles: Path
) -> None:
    engine = engine_with(tmp_path, {"PREFECT_PROFILE": "ephemeral"})

    with pytest.raises(EngineUnavailable, match="oumi-flows up"):
        engine.connection()


@pytest.mark.parametrize(
    "text",
    [
        "active = ",
        "profiles = []",
        "active = ['a']",
        "active = 'a'\nprofiles = {a = 1}",
        "active = 'a'\nprofiles = {a = ['b']}",
    ],
)
def test_a_broken_profiles_file_is_named(tmp_path: Path, profiles: Path, text: str) -> None:
    profiles.write_text(text)

    with pytest.raises(EngineUnavailable, match=r"profiles\.toml cannot be read"):
        engine_with(tmp_path, {})


def test_secrets_stay_out_of_what_is_printed(tmp_path: Path) -> None:
    connection = engine_with(
        tmp_path,
        {
            "PREFECT_API_URL": "http://x/api",
            "PREFECT_API_AUTH_STRING": "me:hunter2",
            "PREFECT_API_KEY": "hunter3",
        },
    ).connection()

    assert "hunter" not in repr(connection)
    assert "hunter" not in str(connection)


def test_an_engine_never_started_has_no_connection(home: Path) -> None:
    with pytest.raises(EngineUnavailable, match="has not been started"):
        make_engine(home).connection()


def test_a_corrupt_record_counts_as_never_started(home: Path) -> None:
    folder = home / "engine"
    folder.mkdir(parents=True)
    (folder / "server.json").write_text('{"port": 2')
    (folder / "auth").write_text("a:b\n")

    with pytest.raises(EngineUnavailable, match="has not been started"):
        make_engine(home).connection()


def test_the_environment_of_an_external_server_names_it_and_leaves_prefects_home_alone(
    tmp_path: Path,
) -> None:
    engine = engine_with(tmp_path, {"PREFECT_API_URL": "http://x:1/api", "PREFECT_API_KEY": "key"})

    assert engine.environment() == {
        "PREFECT_API_URL": "http://x:1/api",
        "PREFECT_API_KEY": "key",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
