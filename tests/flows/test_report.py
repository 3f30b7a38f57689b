"""What a running job says in its run's log and progress."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from flows.core.models import JobProgress
from flows.core.states import TerminationReason
from flows.job.insight import Insight
from flows.job.outcome import Outcome
from flows.job.progress_artifact import ProgressArtifact
from flows.job.reporting import Report
from flows.launcher.port import LauncherState, Observation


class Artifact:
    """The progress put on a run."""

    def __init__(self) -> None:
        self.shown: list[tuple[JobProgress, str | None]] = []

    async def show(
        self,
        progress: JobProgress,
        *,
        observed_at: datetime,
        unreachable: str | None,
        insight: Insight | None,
    ) -> None:
        self.shown.append((progress, unreachable))


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def logger(lines: Lines) -> logging.Logger:
    logger = logging.Logger("job")  # no parent: nothing is sent anywhere else
    logger.addHandler(lines)
    return logger


@pytest.fixture
def artifact() -> Artifact:
    return Artifact()


@pytest.fixture
async def report(artifact: Artifact, logger: logging.Logger) -> Report:
    return Report(cast("ProgressArtifact", artifact), logger, interval_seconds=0)


def seen(log: Path, state: LauncherState = LauncherState.RUNNING) -> Observation:
    return Observation(state=state, observed_at=datetime.now(UTC), log_path=str(log))


async def test_new_lines_are_passed_on_once(report: Report, lines: Lines, tmp_path: Path) -> None:
    log = tmp_path / "log"
    await report.update(seen(log))  # not there yet
    log.write_text("one\ntwo\n")
    await report.update(seen(log))
    with log.open("a") as file:
        file.write("three\n")
    await report.update(seen(log))
    assert lines.texts == ["one", "two", "three"]


async def test_a_log_that_grows_faster_than_it_is_passed_on_is_passed_on_from_its_end(
    report: Report, lines: Lines, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(300_000)))
    await report.update(seen(log))
    assert lines.texts[-1] == "line 299999"
    assert len(lines.texts) <= 21
    with log.open("a") as file:
        file.write("after\n")
    await report.update(seen(log))
    assert lines.texts[-1] == "after"


async def test_a_log_without_a_newline_is_no_flood(
    report: Report, lines: Lines, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_000)
    await report.update(seen(log))
    await report.finish(
        Outcome(TerminationReason.COMPLETED, "Done."), seen(log, LauncherState.SUCCEEDED)
    )
    assert sum(map(len, lines.texts)) < 200_000


async def test_an_unreachable_job_is_reported_once_and_so_is_its_return(
    report: Report, artifact: Artifact, lines: Lines, tmp_path: Path
) -> None:
    await report.show_unreachable("timed out after 3 s", observed=None)
    await report.show_unreachable("timed out after 4 s", observed=None)
    assert [unreachable for _, unreachable in artifact.shown] == ["timed out after 3 s"]
    assert len(lines.texts) == 1
    await report.update(seen(tmp_path / "log"))
    assert [unreachable for _, unreachable in artifact.shown] == ["timed out after 3 s", None]


@pytest.mark.parametrize("reason", [TerminationReason.TIMED_OUT, TerminationReason.PREEMPTED])
async def test_a_job_that_was_stopped_gives_no_reason_from_its_log(
    reason: TerminationReason, report: Report, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last):\n  ...\nKeyboardInterrupt\n")
    outcome = await report.finish(
        Outcome(reason, "It was stopped."), seen(log, LauncherState.FAILED)
    )
    assert outcome.text == "It was stopped."


async def test_a_failed_job_ends_with_its_last_error(
    report: Report, lines: Lines, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last):\n  ...\nValueError: no such model\n")
    outcome = await report.finish(
        Outcome(TerminationReason.NONZERO_EXIT, "The job exited with code 1."),
        seen(log, LauncherState.FAILED),
    )
    assert outcome.text == "The job exited with code 1. ValueError: no such model"
    assert "ValueError: no such model" in lines.texts[-1]


async def failure(report: Report, ended: Observation) -> Outcome:
    """How a job reads that exited with a code other than 0."""
    outcome = Outcome(TerminationReason.NONZERO_EXIT, "It failed.")
    return await report.finish(outcome, ended, output_dir="/runs/one")


def failed_after(log: Path, text: str) -> Observation:
    log.write_text(text)
    return seen(log, LauncherState.FAILED)


async def test_a_failure_is_told_by_its_first_cause_and_not_by_its_last_line(
    report: Report, tmp_path: Path
) -> None:
    frames = '  File "/x.py", line 1, in f\n    g()\n' * 30
    text = (
        f"Traceback (most recent call last):\n{frames}ArrowInvalid: bad value in row 3\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        f"Traceback (most recent call last):\n{frames}DatasetGenerationError: An error occurred\n"
    )
    outcome = await failure(report, failed_after(tmp_path / "log", text))
    assert outcome.text == (
        "It failed. ArrowInvalid: bad value in row 3 "
        "(then DatasetGenerationError: An error occurred)"
    )


async def test_a_checkpoint_that_found_no_room_is_told_with_its_place(
    report: Report, tmp_path: Path
) -> None:
    text = "RuntimeError: [enforce fail at inline_container.cc:668] . unexpected pos 704 vs 598\n"
    outcome = await failure(report, failed_after(tmp_path / "log", text))
    assert outcome.text.startswith("It failed. The disk is full, or a file")
    assert "/runs/one" in outcome.text


async def test_a_gpu_that_had_too_little_memory_is_the_reason(
    report: Report, tmp_path: Path
) -> None:
    text = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    outcome = await failure(report, failed_after(tmp_path / "log", text))
    assert outcome.reason is TerminationReason.OUT_OF_MEMORY
