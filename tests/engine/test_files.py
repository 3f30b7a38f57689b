import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from flows.core.models import Value
from flows.core.settings import Settings
from mcp_server.engine.files import LOG_ROTATE_BYTES, EngineFiles, last_words


class BigRecord(Value):
    text: str = "x" * 100_000


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def files(home: Path) -> EngineFiles:
    files = EngineFiles(Settings(home=home))
    files.prepare()
    return files


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_home_folder_and_secrets_are_their_owners_alone(home: Path, files: EngineFiles) -> None:
    files.ensure_auth()

    assert [mode(home), mode(files.folder), mode(files.auth)] == [0o700, 0o700, 0o600]


def test_files_that_others_could_read_are_closed_to_them(files: EngineFiles) -> None:
    made = [files.database, Path(f"{files.database}-wal"), files.server_log, files.worker_record]
    for path in made:
        path.touch()
        path.chmod(0o644)
    elsewhere = files.home / "elsewhere"
    elsewhere.touch()
    elsewhere.chmod(0o644)
    (files.folder / "link").symlink_to(elsewhere)

    files.prepare()

    assert [mode(path) for path in made] == [0o600] * len(made)
    assert mode(elsewhere) == 0o644


def test_credentials_are_made_up_once(files: EngineFiles) -> None:
    first = files.ensure_auth()

    assert files.ensure_auth() == first == files.read_auth()


def test_a_full_disk_is_reported_with_its_path_and_what_to_do(full_disk: Path) -> None:
    files = EngineFiles(Settings(home=full_disk))

    with pytest.raises(EngineUnavailable) as raised:
        files.prepare()

    assert f"{full_disk}/engine: No space left on device" in raised.value.what
    assert "OUMI_FLOWS_HOME" in raised.value.next_step


def test_a_disk_that_fills_up_while_a_record_is_written_leaves_the_old_record(
    full_disk: Path, files: EngineFiles
) -> None:
    small = EngineFiles(Settings(home=full_disk))
    small.folder.mkdir()
    small.auth.write_text("a:b\n")
    with pytest.raises(OSError, match="No space"):
        (full_disk / "filler").write_bytes(bytes(2**21))

    with pytest.raises(EngineUnavailable, match="No space left"):
        small.write(small.server_record, BigRecord())

    assert small.read_auth() == "a:b"


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"

    with pytest.raises(EngineUnavailable) as raised:
        EngineFiles(Settings(home=home)).prepare()

    assert str(tmp_path / "file") in raised.value.what
    assert "OUMI_FLOWS_HOME" in raised.value.next_step


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(EngineUnavailable, match="Permission denied"):
        EngineFiles(Settings(home=tmp_path / "home")).prepare()


def test_the_lock_is_had_by_one_at_a_time(files: EngineFiles) -> None:
    waits = files.lock(timeout=0.1)
    with files.lock(timeout=0), pytest.raises(EngineUnavailable, match="starting or stopping"):
        waits.__enter__()
    with files.lock(timeout=0):
        pass


def test_who_waits_for_the_lock_gets_it_when_it_is_free(files: EngineFiles) -> None:
    got = threading.Event()

    def wait() -> None:
        with files.lock(timeout=10):
            got.set()

    waiting = threading.Thread(target=wait)
    with files.lock(timeout=0):
        waiting.start()
        assert not got.wait(0.2)
    assert got.wait(5)
    waiting.join()


def test_a_long_log_is_put_aside_at_the_next_start(files: EngineFiles) -> None:
    files.server_log.write_bytes(b"x" * (LOG_ROTATE_BYTES + 1))

    assert files.begin_log(files.server_log) == 0
    assert files.server_log.with_suffix(".log.1").stat().st_size == LOG_ROTATE_BYTES + 1
    assert mode(files.server_log) == 0o600


def test_a_short_log_is_continued(files: EngineFiles) -> None:
    files.server_log.write_text("before\n")

    assert files.begin_log(files.server_log) == 7


def test_last_words_are_those_of_the_latest_start(files: EngineFiles) -> None:
    files.server_log.write_text("before\nfirst\n\nsecond\n")

    assert last_words(files.server_log, since=7) == "first\nsecond"
    assert last_words(files.folder / "none") == ""


def test_last_words_are_the_error_a_traceback_is_about(files: EngineFiles) -> None:
    files.server_log.write_text(
        "starting\nTraceback (most recent call last):\n  File x, line 1\n    fail()\n"
        "db.exc.DatabaseError: no database\n\nlog | Application startup failed.\n"
    )

    assert last_words(files.server_log) == "db.exc.DatabaseError: no database"
