"""How a worker watches the training of a job."""

import json
import math
from pathlib import Path

from flows.core.diagnosis.findings import Diagnosis
from flows.core.models import GpuUsage, Usage
from flows.core.redaction import Redactor
from flows.core.states import Health, TerminationReason
from flows.core.training.recorder import Recorder, record_folder
from flows.job.insight import Insight, LookRate, draw_page, look_at_training

HIDE = Redactor(["secret-of-the-job-1"])
FINE = Diagnosis(summary="OK.", health=Health.OK, findings=[])


def record(folder: Path, losses: list[float], *, name: str = "loss") -> Path:
    """The log of a job that logged these losses."""
    log = folder / "log.txt"
    log.touch()
    recorder = Recorder(record_folder(log), "1")
    recorder.note("begin", {"step": 0})
    for step, loss in enumerate(losses, start=1):
        recorder.log(step, {name: loss})
    recorder.close()
    return log


def test_a_training_that_diverged_is_bad_while_it_runs(tmp_path: Path) -> None:
    log = record(tmp_path, [2.0, 1.0, math.nan, math.nan, math.nan])
    insight = look_at_training(log, hide=HIDE)
    assert insight.diagnosis.health is Health.BAD
    assert insight.as_metadata(limit=500) == {"health": "bad"}


def test_a_job_without_a_record_is_unknown(tmp_path: Path) -> None:
    insight = look_at_training(tmp_path / "log.txt", hide=HIDE)
    assert (insight.diagnosis.health, insight.usage) == (Health.UNKNOWN, None)


def test_a_failed_job_is_bad_and_its_secrets_stay_hidden(tmp_path: Path) -> None:
    log = record(tmp_path, [2.0])
    log.write_text(
        "Traceback (most recent call last):\nValueError: no entry with secret-of-the-job-1\n"
    )
    insight = look_at_training(log, hide=HIDE, reason=TerminationReason.NONZERO_EXIT)
    assert insight.diagnosis.health is Health.BAD
    assert "secret-of-the-job-1" not in insight.diagnosis.model_dump_json()
    assert "***" in insight.diagnosis.model_dump_json()


def test_the_use_of_many_gpus_is_cut_to_what_prefect_keeps() -> None:
    gpus = [GpuUsage(utilization_percent=99, memory_bytes=7e10, power_watts=700)] * 8
    metadata = Insight(FINE, Usage(ram_bytes=1.0, gpus=gpus)).as_metadata(limit=500)
    assert len(metadata["usage"]) <= 500
    assert 0 < len(json.loads(metadata["usage"])["gpus"]) < 8


def test_the_page_has_health_chart_and_last_values(tmp_path: Path) -> None:
    page = draw_page(record(tmp_path, [3.0, 1.5, 2.0]), FINE)
    lines = page.splitlines()
    assert lines[0] == "Health: **ok**"
    assert lines[2].startswith("![metrics](data:image/png;base64,iVBOR")
    assert lines[-1] == "| loss | 2 | 3 | 1.5 at step 2 |"


def test_a_job_without_metrics_has_no_page(tmp_path: Path) -> None:
    assert draw_page(record(tmp_path, []), FINE) == ""


def test_looks_take_a_small_share_of_the_time() -> None:
    rate = LookRate(seconds=30)
    assert rate.take_turn()
    rate.note_cost(0.0)
    assert rate.take_turn()
    rate.note_cost(100.0)
    assert not rate.take_turn()
