"""While a job is paused its training is neither silent nor slow."""

from pathlib import Path

import numpy as np
import pytest

from flows.core.diagnosis.findings import FindingKind
from flows.core.diagnosis.reading import read_evidence
from flows.core.diagnosis.request import DiagnosisRequest
from flows.core.diagnosis.rules import diagnose
from flows.core.diagnosis.running_time import RunningTime
from flows.core.redaction import Redactor
from flows.core.training.recorder import Recorder, record_folder
from flows.core.training.usage_names import PAUSE_EVENT, RESUME_EVENT, USAGE_SEGMENT

STEPS = 200
BEGAN = 1_000_000.0


def event(kind: str, at: float) -> dict[str, object]:
    return {"kind": kind, "at": at}


@pytest.mark.parametrize(
    ("events", "moved"),
    [
        ([], [0, 10, 20, 30]),
        ([event(PAUSE_EVENT, 12), event(RESUME_EVENT, 18)], [6, 16, 20, 30]),
        ([event(PAUSE_EVENT, 5), event(RESUME_EVENT, 15)], [10, 15, 20, 30]),
        ([event(PAUSE_EVENT, 25)], [15, 25, 35, 40]),
        (
            [event(RESUME_EVENT, 5), event(PAUSE_EVENT, 25), event(PAUSE_EVENT, 26)],
            [15, 25, 35, 40],
        ),
    ],
    ids=["none", "between", "around a time", "not over", "records that were cut"],
)
def test_times_are_moved_by_the_pauses_between_them_and_now(
    events: list[dict[str, object]], moved: list[float]
) -> None:
    time = RunningTime(events, now=40.0)
    assert list(time.move(np.array([0.0, 10.0, 20.0, 30.0]))) == moved


@pytest.mark.parametrize(
    ("resumes_after", "looks_after", "stalled"),
    [(None, 7200.0, False), (7000.0, 7010.0, False), (100.0, 7200.0, True)],
    ids=["paused", "resumed just now", "resumed long ago"],
)
def test_a_paused_training_is_not_stalled(
    tmp_path: Path, resumes_after: float | None, looks_after: float, stalled: bool
) -> None:
    log = tmp_path / "log.txt"
    log.touch()
    training = Recorder(record_folder(log))
    training.note("begin", {"max_steps": 10 * STEPS}, at=BEGAN)
    for step in range(1, STEPS + 1):
        training.log(step, {"loss": 3.0 - step / STEPS}, at=BEGAN + step)
    ended = BEGAN + STEPS
    use = Recorder(record_folder(log), USAGE_SEGMENT)
    use.note(PAUSE_EVENT, {}, at=ended)
    if resumes_after is not None:
        use.note(RESUME_EVENT, {}, at=ended + resumes_after)
    request = DiagnosisRequest(log_paths=[str(log)], now=ended + looks_after, is_running=True)
    found = diagnose(read_evidence(request, Redactor([]))).findings
    assert (FindingKind.STALLED in [finding.kind for finding in found]) is stalled
