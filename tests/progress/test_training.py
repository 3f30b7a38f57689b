"""The hook inside a real training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.logs import read_tail
from flows.models import JobProgress
from flows.progress import ProgressReader, deps_file_text

TINY = Path(__file__).parents[2] / "examples" / "tiny"


@pytest.mark.slow
def test_a_real_training_reports_through_the_hook_beside_a_module_of_the_users(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text("print('my own module')\n")
    (tmp_path / "deps.txt").write_text(deps_file_text(f"{tmp_path / 'mine.py'}\n"))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "400",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "OUMI_EXTRA_DEPS_FILE": str(tmp_path / "deps.txt"),
    }

    def run(log: Path, *command: str) -> None:
        with log.open("wb") as output:
            subprocess.run(
                command, cwd=tmp_path, env=environment, stdout=output, stderr=output, check=True
            )

    run(tmp_path / "make.log", sys.executable, str(TINY / "make_tiny.py"), "data")
    oumi = str(Path(sys.executable).parent / "oumi")
    log = tmp_path / "train.log"
    run(log, oumi, "train", "-c", str(TINY / "train.yaml"))

    reader = ProgressReader(log)
    progress = reader.read()
    assert progress is not None
    assert progress == JobProgress(
        step=60, max_steps=60, percent=100.0, loss=progress.loss, eta_seconds=0.0
    )
    assert progress.loss is not None
    assert progress.loss < 2
    assert reader.last_checkpoint_step == 60
    tail = read_tail(log, lines=2000, max_bytes=10**6, final=True)
    assert "my own module" in tail.lines
    assert not any("::oumi-flows-progress::" in line for line in tail.lines)
