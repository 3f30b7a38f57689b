"""The hook inside a real training."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.core.divergence import has_diverged
from flows.core.logs.pages import read_tail
from flows.core.models import JobProgress
from flows.core.result_metrics import ResultFiles, read_metrics
from flows.job.progress import ProgressReader
from flows.launcher.job_environment import deps_file_text

TINY = Path(__file__).parents[2] / "examples" / "tiny"


class Place:
    """A folder with the tiny model, in which Oumi commands run with the hook."""

    def __init__(self, folder: Path, *, deps: str | None = None) -> None:
        self.folder = folder
        (folder / "deps.txt").write_text(deps_file_text(deps))
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "400",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "OUMI_EXTRA_DEPS_FILE": str(folder / "deps.txt"),
        }
        self._run(folder / "make.log", sys.executable, str(TINY / "make_tiny.py"), "data")

    def train(self, *overrides: str) -> Path:
        """Train; the log."""
        oumi = str(Path(sys.executable).parent / "oumi")
        log = self.folder / "train.log"
        self._run(log, oumi, "train", "-c", str(TINY / "train.yaml"), *overrides)
        return log

    def _run(self, log: Path, *command: str) -> None:
        with log.open("wb") as output:
            subprocess.run(
                command,
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=output,
                check=True,
            )


@pytest.mark.slow
def test_a_real_training_reports_through_the_hook_beside_a_module_of_the_users(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text("print('my own module')\n")
    log = Place(tmp_path, deps=f"{tmp_path / 'mine.py'}\n").train()

    reader = ProgressReader(log)
    progress = reader.read()
    assert progress is not None
    assert progress == JobProgress(
        step=60, max_steps=60, percent=100.0, loss=progress.loss, eta_seconds=0.0
    )
    assert progress.loss is not None
    assert progress.loss < 2
    tail = read_tail(log, lines=2000, max_bytes=10**6, final=True)
    assert "my own module" in tail.lines
    assert not any("::oumi-flows-progress::" in line for line in tail.lines)


@pytest.mark.slow
def test_a_real_training_that_diverged_reads_so_in_its_log_and_its_metrics(tmp_path: Path) -> None:
    diverging = ["--training.optimizer", "sgd", "--training.learning_rate", "1e38"]
    log = Place(tmp_path).train(*diverging, "--training.max_steps", "12")
    reader = ProgressReader(log)
    progress = reader.read()
    assert progress is not None
    assert (progress.step, progress.loss) == (12, math.nan)
    # Also without the hook's reports, as from the log of a cluster.
    printed = ProgressReader(without_reports(log)).read()
    assert printed is not None
    assert printed.loss is not None
    assert math.isnan(printed.loss)
    metrics = read_metrics(ResultFiles(tmp_path / "runs" / "train", None))
    assert math.isnan(metrics["loss"])
    assert math.isnan(metrics["train_loss"])
    assert has_diverged(metrics)


@pytest.mark.slow
def test_a_real_training_shorter_than_a_log_interval_has_a_loss(tmp_path: Path) -> None:
    short = ["--training.max_steps", "3", "--training.logging_first_step", "false"]
    log = Place(tmp_path).train(*short)
    progress = ProgressReader(log).read()
    assert progress is not None
    assert progress.loss is not None
    assert 5 < progress.loss < 7
    metrics = read_metrics(ResultFiles(tmp_path / "runs" / "train", None))
    assert metrics["loss"] == metrics["train_loss"] == pytest.approx(progress.loss)


def without_reports(log: Path) -> Path:
    path = log.with_suffix(".plain")
    path.write_bytes(re.sub(rb"\r::oumi-flows-progress:: [^\r]*\r", b"", log.read_bytes()))
    return path
