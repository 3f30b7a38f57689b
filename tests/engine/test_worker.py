import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.core.live_processes import ProcessRecord, identity_of
from flows.core.settings import Settings
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.worker import Worker, WorkerRecord

GONE = ProcessRecord(pid=os.getpid(), identity="gone")
ALIVE = ProcessRecord(pid=os.getpid(), identity=str(identity_of(os.getpid())))


@pytest.fixture
def files(home: Path) -> EngineFiles:
    files = EngineFiles(Settings(home=home))
    files.prepare()
    return files


@pytest.mark.parametrize(
    ("process", "failures", "seconds_ago", "rests"),
    [
        (GONE, 2, 1, True),
        (GONE, 1, 1, False),
        (GONE, 9, 60, False),
        (GONE, 9, -60, False),
        (ALIVE, 9, 1, False),
    ],
)
def test_a_worker_rests_after_starts_that_did_not_last(
    files: EngineFiles, process: ProcessRecord, failures: int, seconds_ago: float, rests: bool
) -> None:
    worker = Worker(files, Settings(home=files.home), {}, kind="oumi", version="1")
    record = WorkerRecord(
        process=process,
        server="x",
        version="1",
        started=time.time() - seconds_ago,
        failures=failures,
    )
    files.write(files.worker_record, record)

    assert worker.should_rest() is rests


def test_a_worker_that_was_of_use_is_started_again_at_once(files: EngineFiles) -> None:
    worker = Worker(files, Settings(home=files.home), {}, kind="oumi", version="1")
    record = WorkerRecord(
        process=GONE.model_copy(update={"log_offset": 5}),
        server="x",
        version="1",
        started=time.time(),
        failures=9,
    )
    files.write(files.worker_record, record)
    files.worker_log.write_text("old:\n10:00 | INFO | Oumi is loaded.\nkilled\n")

    assert not worker.should_rest()


def test_a_worker_that_was_stopped_on_purpose_did_not_fail(files: EngineFiles) -> None:
    worker = Worker(files, Settings(home=files.home), {}, kind="oumi", version="1")
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=files.folder
    )
    with process:
        record = WorkerRecord(
            process=ProcessRecord(pid=process.pid, identity=str(identity_of(process.pid))),
            server="x",
            version="1",
            started=time.time(),
            failures=9,
        )
        files.write(files.worker_record, record)

        worker.stop()

    assert process.poll() is not None
    assert not worker.should_rest()


def test_workers_of_different_homes_have_different_names(tmp_path: Path) -> None:
    homes = [Settings(home=tmp_path / name) for name in ("one", "two")]

    names = {Worker(EngineFiles(home), home, {}, kind="oumi", version="1").name for home in homes}

    assert len(names) == 2
