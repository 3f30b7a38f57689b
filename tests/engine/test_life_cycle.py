"""One embedded engine, broken in every way and brought back, mostly on the same files."""

import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from flows.core.errors import EngineUnavailable
from flows.core.names import CALL_QUEUE, CLOUD_QUEUE
from mcp_server.engine import Engine, EngineSeverity
from tests.engine.conftest import make_engine
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.engine

CALLERS = 20

# Forked from one, as 20 interpreters starting at once would measure little else.
ENSURE = """
import os, sys
from pathlib import Path
from tests.engine.conftest import make_engine
home, callers = Path(sys.argv[1]), int(sys.argv[2])
children = []
for _ in range(callers):
    child = os.fork()
    if not child:
        print(make_engine(home).ensure().api_url, flush=True)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


def processes_of(home: Path) -> list[str]:
    """What runs with this home's folder in its command line or as its working directory."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(home / "engine"):
                found.append(" ".join(process.cmdline()[4:6]))
        except psutil.Error:
            continue
    return sorted(found)


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def remove_database(home: Path) -> None:
    """With its write-ahead log, whose pages would take the place of those in another file."""
    for part in (home / "engine").glob("prefect.db*"):
        part.unlink()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("life cycle") / "home with space"


@pytest.fixture(scope="module")
def answers(home: Path) -> Iterator[list[str]]:
    """What 20 processes got that all started the engine at once."""
    called = subprocess.run(
        [sys.executable, "-c", ENSURE, str(home), str(CALLERS)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=90,
    )
    yield called.stdout.split()
    make_engine(home).down()


@pytest.fixture
def engine(home: Path, answers: list[str]) -> Engine:
    """The module's engine, up."""
    engine = make_engine(home)
    engine.ensure()
    return engine


def test_twenty_processes_starting_it_at_once_share_one_engine(
    home: Path, answers: list[str]
) -> None:
    assert answers == [make_engine(home).connection().api_url] * CALLERS
    assert processes_of(home) == [
        "mcp_server.engine.serve " + str(home / "engine"),
        "prefect worker",
    ]


def test_an_engine_that_is_up_is_found_in_milliseconds(engine: Engine) -> None:
    taken: list[float] = []
    for _ in range(10):
        # Its own time: how long the server takes to answer depends on what else runs here.
        before = time.process_time()
        engine.ensure(report=pytest.fail)
        taken.append(time.process_time() - before)

    assert min(taken) < 0.02


def test_the_worker_comes_online_and_the_status_tells_all(engine: Engine, home: Path) -> None:
    status = eventually_sync(
        lambda: (status := engine.status()).worker.online and status, timeout=30
    )

    assert status.problem is None
    assert status.deployed
    assert status.server.alive
    assert status.server.healthy
    assert status.server.version == importlib.metadata.version("prefect")
    assert status.server.rss_bytes
    assert status.server.started_at
    assert status.worker.pid
    assert status.api_url == engine.connection().api_url
    assert str(status.auth_path) == str(home / "engine" / "auth")
    assert {finding.severity for finding in engine.doctor()} == {EngineSeverity.OK}


def test_the_server_refuses_strangers_and_serves_its_ui(engine: Engine) -> None:
    connection = engine.connection()
    evil = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    with httpx2.Client(trust_env=False) as client:
        assert client.get(f"{connection.api_url}/admin/version").status_code == 401
        preflight = client.options(f"{connection.api_url}/flow_runs/", headers=evil)
        page = client.get(connection.ui_url, follow_redirects=True)
        settings = client.get(connection.api_url.replace("/api", "/ui-settings")).json()

    assert "access-control-allow-origin" not in preflight.headers
    assert page.status_code == 200
    assert "<html" in page.text.lower()
    assert (settings["api_url"], settings["auth"]) == (connection.api_url, "BASIC")


def test_the_server_answers_under_its_own_name_and_its_pages_call_no_other_host(
    engine: Engine,
) -> None:
    connection = engine.connection()
    with httpx2.Client(trust_env=False, headers=connection.headers) as client:
        evil = {"Host": "evil.example"}
        refused = [
            client.get(url, headers=evil).status_code
            for url in (f"{connection.api_url}/health", connection.ui_url)
        ]
        page = client.get(connection.ui_url, follow_redirects=True)
        answer = client.get(
            f"{connection.api_url}/health", headers={"Host": f"localhost:{page.url.port}"}
        )

    assert refused == [400, 400]
    assert answer.status_code == 200
    assert "content-security-policy" not in answer.headers
    policy = page.headers["content-security-policy"]
    assert "default-src 'self';" in policy
    origin = connection.api_url.removesuffix("/api")
    assert f"connect-src 'self' {origin} {origin.replace('http', 'ws')}" in policy


def test_everything_in_the_engines_folder_is_its_owners_alone(engine: Engine, home: Path) -> None:
    engine.status()
    files = [path for path in (home / "engine").iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"prefect.db", "prefect.db-wal", "prefect.db-shm"}
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_no_command_line_holds_a_secret(engine: Engine) -> None:
    secret = str(engine.connection().auth_string).partition(":")[2]

    status = engine.status()

    for pid in (status.server.pid, status.worker.pid):
        assert secret not in " ".join(psutil.Process(pid).cmdline())


def test_prefects_own_command_works_in_its_environment(engine: Engine) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "prefect", "work-pool", "ls"],
        env={**os.environ, **engine.environment()},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "oumi" in shown.stdout


def test_a_worker_is_told_first_of_what_somebody_waits_for(engine: Engine) -> None:
    connection = engine.connection()
    with httpx2.Client(headers=connection.headers, trust_env=False) as client:
        url = f"{connection.api_url}/work_pools/oumi/queues/filter"
        queues = client.post(url, json={}).json()
    ranked = sorted(queues, key=lambda queue: queue["priority"])
    assert [queue["name"] for queue in ranked] == [CALL_QUEUE, CLOUD_QUEUE, "default"]


def test_a_killed_worker_is_replaced(engine: Engine, home: Path) -> None:
    before = engine.status()
    kill(before.worker.pid)
    eventually_sync(lambda: not engine.status().worker.alive)
    with (home / "engine" / "worker.log").open("a") as log:
        log.write("\nMemoryError: no room\n")
    assert engine.status().problem == (
        "The worker is not running, so jobs wait. Its log says: MemoryError: no room"
    )

    engine.ensure()

    after = engine.status()
    assert after.worker.alive
    assert after.worker.pid != before.worker.pid
    assert after.server.pid == before.server.pid


def test_a_killed_server_is_replaced_on_the_same_port_and_the_worker_stays(
    engine: Engine,
) -> None:
    before = engine.status()
    kill(before.server.pid)
    eventually_sync(lambda: not engine.status().server.alive)
    assert "is not running" in str(engine.status().problem)

    engine.ensure()

    after = engine.status()
    assert after.server.healthy
    assert after.api_url == before.api_url
    assert after.worker.pid == before.worker.pid


def test_a_lost_record_of_a_server_that_runs_is_written_anew(engine: Engine, home: Path) -> None:
    before = engine.status()
    (home / "engine" / "server.json").write_text("{")

    assert engine.ensure().api_url == before.api_url

    assert engine.status().server.pid == before.server.pid


@pytest.mark.slow
def test_lost_credentials_are_replaced(engine: Engine, home: Path) -> None:
    before = engine.status()
    (home / "engine" / "auth").unlink()

    engine.ensure()

    after = engine.status()
    assert after.server.healthy
    assert after.server.pid != before.server.pid
    assert after.worker.pid != before.worker.pid


@pytest.mark.slow
def test_a_record_of_a_pid_that_is_now_another_process_is_stale(engine: Engine, home: Path) -> None:
    pid = engine.status().server.pid
    record = json.loads((home / "engine" / "server.json").read_text())
    kill(pid)
    eventually_sync(lambda: not engine.status().server.alive)
    record["process"] = {**record["process"], "pid": os.getpid()}
    (home / "engine" / "server.json").write_text(json.dumps(record))

    engine.ensure()

    assert engine.status().server.healthy


def test_down_stops_both_and_up_keeps_address_and_deployment(engine: Engine, home: Path) -> None:
    before = engine.status()

    stopped = engine.down()

    assert not stopped.server.alive
    assert not stopped.worker.alive
    assert stopped.problem == "The Prefect server is not running"
    assert processes_of(home) == []
    with pytest.raises(EngineUnavailable, match="stopped with `oumi-flows down`"):
        engine.ensure(after_down=False)
    said: list[str] = []
    engine.ensure(report=said.append)
    engine.ensure(after_down=False)
    assert engine.status().api_url == before.api_url
    assert said == ["Starting the Prefect server", "Starting the worker"]


@pytest.mark.slow
def test_a_wiped_database_gets_its_deployment_again_and_a_taken_port_is_given_up(
    engine: Engine, home: Path
) -> None:
    before = engine.connection()
    engine.down()
    remove_database(home)
    with socket.create_server(("127.0.0.1", urlsplit(before.api_url).port or 0)):
        after = engine.ensure()

    assert after.api_url != before.api_url
    # What listens on the old port may have seen the old password.
    assert after.auth_string != before.auth_string
    assert engine.connection() == after
    status = engine.status()
    assert (status.problem, status.deployed, status.worker.alive) == (None, True, True)


@pytest.mark.slow
def test_the_reason_why_a_server_did_not_start_is_told(home: Path, engine: Engine) -> None:
    engine.down()
    remove_database(home)
    (home / "engine" / "prefect.db").write_bytes(b"this is no database" * 1000)

    with pytest.raises(EngineUnavailable) as raised:
        engine.ensure()

    remove_database(home)

    assert "ended while it started" in raised.value.what
    assert "DatabaseError" in raised.value.what
    assert str(home / "engine" / "server.log") in raised.value.next_step
    assert processes_of(home) == []


def test_down_when_nothing_runs_changes_nothing(tmp_path: Path) -> None:
    status = make_engine(tmp_path / "home").down()

    assert not status.server.alive
    assert not (tmp_path / "home").exists()


def test_a_chosen_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        engine = make_engine(tmp_path / "home", engine_port=port)

        with pytest.raises(EngineUnavailable, match=f"Port {port} of 127.0.0.1 is taken"):
            engine.ensure()


@pytest.mark.slow
def test_a_copied_home_gets_an_engine_of_its_own(
    engine: Engine, home: Path, tmp_path: Path
) -> None:
    before = engine.status()
    copied = tmp_path / "copy"
    shutil.copytree(home, copied, symlinks=True)
    copy = make_engine(copied)

    after = copy.ensure()
    mine = copy.status()
    copy.down()

    assert mine.problem is None
    assert after.api_url != before.api_url
    assert after.auth_string != engine.connection().auth_string
    assert processes_of(copied) == []
    assert engine.status().server.pid == before.server.pid
    assert engine.status().worker.pid == before.worker.pid


@pytest.mark.slow
def test_a_home_that_is_moved_while_its_engine_runs_is_brought_up_where_it_is_now(
    tmp_path: Path,
) -> None:
    moved = tmp_path / "new"
    engine = make_engine(moved)
    try:
        make_engine(tmp_path / "old").ensure()
        (tmp_path / "old").rename(moved)
        assert "was moved" in str(engine.status().problem)

        engine.ensure()

        assert engine.status().problem is None
        assert processes_of(moved) == [
            "mcp_server.engine.serve " + str(moved / "engine"),
            "prefect worker",
        ]
    finally:
        engine.down()
        make_engine(tmp_path / "old").down()
    assert processes_of(moved) == []


@pytest.mark.slow
def test_who_keeps_it_brings_back_what_was_killed_until_it_is_taken_down(
    engine: Engine, home: Path
) -> None:
    looks: list[float] = []

    def between_looks(seconds: float) -> None:
        looks.append(seconds)
        status = engine.status()
        assert status.server.alive
        assert status.worker.alive
        if len(looks) == 3:
            engine.down()
            return
        victim = status.server if len(looks) == 1 else status.worker
        assert victim.pid is not None
        process = psutil.Process(victim.pid)
        process.kill()
        process.wait(timeout=10)

    engine.keep(pause=between_looks)
    assert len(looks) == 3
    assert processes_of(home) == []
