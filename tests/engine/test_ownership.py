"""To whom an engine belongs, and to whom its password goes, without a Prefect server."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.core.errors import EngineUnavailable
from flows.core.live_processes import ProcessRecord, identity_of, works_in
from flows.core.server_record import ServerRecord, read_server_record
from flows.core.settings import Settings
from mcp_server.engine import Connection, Engine
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.rest import rest
from mcp_server.engine.server import Server
from mcp_server.engine.worker import Worker, WorkerRecord
from tests.engine.conftest import make_engine
from tests.support.waiting import eventually_sync

LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""

KNOCK = """
import socket, sys
from pathlib import Path
from typing import Any
from flows.core.server_record import guard_server_port
port, folder = int(sys.argv[1]), Path(sys.argv[2])
guard_server_port(f"http://127.0.0.1:{port}/api", folder)
try:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    print("let through")
except ConnectionRefusedError as error:
    print(f"refused: {error}")
"""


class Listener:
    """A process that listens on a port, as the embedded server does."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())
        self.record = ProcessRecord(pid=process.pid, identity=str(identity_of(process.pid)))


@contextmanager
def listening(folder: Path) -> Iterator[Listener]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    ) as process:
        yield Listener(process)
        process.communicate()


@pytest.fixture
def files(home: Path) -> EngineFiles:
    files = EngineFiles(Settings(home=home))
    files.prepare()
    return files


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """Another process's socket on a port; the tests' own stands in for that process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


def heard(stranger: socket.socket) -> bool:
    try:
        connection, _ = stranger.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True


def record(files: EngineFiles, server: ServerRecord, *, auth: str = "oumi:secret") -> None:
    files.write(files.server_record, server)
    files.auth.write_text(f"{auth}\n")


def dead() -> ProcessRecord:
    return ProcessRecord(pid=os.getpid(), identity="gone")


def test_a_process_holds_the_port_it_listens_on_and_no_other(files: EngineFiles) -> None:
    with listening(files.folder) as listener:
        assert listener.record.holds("127.0.0.1", listener.port)
        assert not listener.record.holds("127.0.0.2", listener.port)
        mine = ProcessRecord(pid=os.getpid(), identity=str(identity_of(os.getpid())))
        assert not mine.holds("127.0.0.1", listener.port)
    assert not listener.record.holds("127.0.0.1", listener.port)


def test_a_client_at_the_port_does_not_hold_it(files: EngineFiles) -> None:
    with (
        listening(files.folder) as listener,
        socket.create_connection(("127.0.0.1", listener.port)) as client,
    ):
        mine = ProcessRecord(pid=os.getpid(), identity=str(identity_of(os.getpid())))
        assert not mine.holds("127.0.0.1", listener.port)
        assert not mine.holds("127.0.0.1", client.getsockname()[1])


@pytest.mark.parametrize("is_alive", [True, False], ids=["another process lives", "it is gone"])
def test_nothing_is_sent_to_a_stranger_at_the_port(
    files: EngineFiles, stranger: socket.socket, *, is_alive: bool
) -> None:
    port = stranger.getsockname()[1]
    with listening(files.folder) as other:
        process = other.record if is_alive else dead()
        record(files, ServerRecord(port=port, process=process, folder=str(files.folder)))
        engine = make_engine(files.home, api_timeout_seconds=1)

        status = engine.status()
        engine.doctor()

        assert status.problem
        assert not status.server.healthy
        assert not heard(stranger)


def test_nothing_is_sent_by_any_request_of_the_engine(stranger: socket.socket) -> None:
    port = stranger.getsockname()[1]
    connection = Connection(
        api_url=f"http://127.0.0.1:{port}/api",
        auth_string="oumi:secret",
        ui_url="",
        embedded=True,
        process=dead(),
    )

    with rest(connection, timeout=1) as api, pytest.raises(EngineUnavailable, match="not run"):
        api.version()

    assert not heard(stranger)


def test_a_worker_does_not_connect_to_a_stranger_at_the_port(
    files: EngineFiles, stranger: socket.socket
) -> None:
    port = stranger.getsockname()[1]
    record(files, ServerRecord(port=port, process=dead(), folder=str(files.folder)))

    assert knock(port, files).startswith("refused: The engine's server does not hold port")
    assert not heard(stranger)

    with listening(files.folder) as listener:
        record(files, ServerRecord(port=listener.port, process=listener.record))
        assert knock(listener.port, files) == "let through"


def test_a_server_that_is_not_the_embedded_one_is_not_guarded(
    files: EngineFiles, stranger: socket.socket
) -> None:
    port = stranger.getsockname()[1]
    record(files, ServerRecord(port=1, process=dead()))

    assert knock(port, files) == "let through"


def knock(port: int, files: EngineFiles) -> str:
    answered = subprocess.run(
        [sys.executable, "-c", KNOCK, str(port), str(files.folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return answered.stdout.strip()


def test_a_copied_home_has_no_engine_and_its_down_ends_none(
    files: EngineFiles, tmp_path: Path
) -> None:
    with listening(files.folder) as server, listening(files.folder) as worker:
        folder = str(files.folder)
        record(files, ServerRecord(port=server.port, process=server.record, folder=folder))
        worker_record = WorkerRecord(
            process=worker.record, server="x", version="1", started=0, failures=0, folder=folder
        )
        files.write(files.worker_record, worker_record)
        copied = tmp_path / "copy"
        shutil.copytree(files.home, copied, symlinks=True)

        engine = make_engine(copied, api_timeout_seconds=0.5)
        engine.down()
        status = engine.status()

        assert (status.server.alive, status.worker.alive) == (False, False)
        assert status.problem == "The Prefect server is not running"
        assert server.record.is_alive
        assert worker.record.is_alive
        assert make_engine(files.home, api_timeout_seconds=0.5).status().server.alive


def test_a_home_under_another_name_is_the_same_home(files: EngineFiles, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(files.home)
    with listening(files.folder) as server:
        record(
            files,
            ServerRecord(port=server.port, process=server.record, folder=str(files.folder)),
        )

        found = make_server(EngineFiles(Settings(home=link)))

        assert found.process == server.record
        assert not found.has_moved
    names = {
        Worker(EngineFiles(home), home, {}, kind="oumi", version="1").name
        for home in (Settings(home=link), Settings(home=files.home))
    }
    assert len(names) == 1


def test_an_engine_whose_home_was_moved_is_ours_and_must_start_again(
    files: EngineFiles, tmp_path: Path
) -> None:
    with listening(files.folder) as server:
        record(
            files,
            ServerRecord(port=server.port, process=server.record, folder=str(files.folder)),
        )
        moved = files.home.rename(tmp_path / "moved")

        found = make_server(EngineFiles(Settings(home=moved)))
        assert found.process == server.record
        assert found.has_moved
        assert "was moved" in str(make_engine(moved, api_timeout_seconds=0.5).status().problem)

        make_engine(moved, api_timeout_seconds=0.5).down()
        eventually_sync(lambda: server.process.poll() is not None)


def test_a_home_that_was_replaced_answers_for_the_engine_of_its_path(
    files: EngineFiles, tmp_path: Path
) -> None:
    with listening(files.folder) as server:
        shutil.copytree(files.home, tmp_path / "backup", symlinks=True)
        shutil.rmtree(files.home)
        (tmp_path / "backup").rename(files.home)

        assert works_in(server.process.pid, files.folder)
        assert not works_in(server.process.pid, tmp_path)


@pytest.mark.parametrize(
    ("known_port", "known_folder", "is_kept"),
    [(True, True, True), (False, True, False), (True, False, False)],
    ids=["the same port", "another port", "a copied folder"],
)
def test_the_password_stays_with_the_port_and_the_folder(
    files: EngineFiles, *, known_port: bool, known_folder: bool, is_kept: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = str(files.folder) if known_folder else "/another/home/engine"
    record(files, ServerRecord(port=port if known_port else 1, process=dead(), folder=folder))
    server = make_server(files, engine_port=port, engine_timeout_seconds=0.01)

    # It cannot start: what its interpreter would import is not there.
    with pytest.raises(EngineUnavailable):
        server.start()

    started = read_server_record(files.folder)
    server.stop()
    assert started is not None
    assert started.port == port
    assert started.folder == str(files.folder)
    assert (files.read_auth() == "oumi:secret") is is_kept


def make_server(files: EngineFiles, **settings: Any) -> Server:
    return Server(
        files,
        Settings(home=files.home, **settings),
        {**os.environ, "PYTHONPATH": "/nowhere"},
    )


def test_an_engine_that_was_stopped_on_purpose_gives_no_reason_from_its_log(
    files: EngineFiles,
) -> None:
    with listening(files.folder) as server, listening(files.folder) as worker:
        folder = str(files.folder)
        record(files, ServerRecord(port=server.port, process=server.record, folder=folder))
        files.write(
            files.worker_record,
            WorkerRecord(
                process=worker.record, server="x", version="1", started=0, failures=0, folder=folder
            ),
        )
        for log in (files.server_log, files.worker_log):
            log.write_text("websockets.exceptions.ConnectionClosedError: no close frame\n")
        engine: Engine = make_engine(files.home)

        assert engine.down().problem == "The Prefect server is not running"
        assert (
            Worker(files, Settings(home=files.home), {}, kind="oumi", version="1").last_words()
            == ""
        )


def test_an_engine_that_is_taken_down_while_a_keeper_waits_for_its_lock_stays_down(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = EngineFiles.lock

    @contextmanager
    def lock_after_down(files: EngineFiles, *, timeout: float) -> Iterator[None]:
        with lock(files, timeout=timeout):
            files.stopped.touch()
            yield

    monkeypatch.setattr(EngineFiles, "lock", lock_after_down)
    engine = make_engine(home)
    with pytest.raises(EngineUnavailable, match="was stopped with `oumi-flows down`"):
        engine.ensure(after_down=False)
    (home / "engine" / "stopped").unlink()
    engine.keep(pause=lambda _: None)
    assert (home / "engine" / "stopped").exists()
    assert not engine.status().server.alive
