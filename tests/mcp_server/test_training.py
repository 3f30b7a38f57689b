"""Metrics and diagnosis of jobs, as a client asks for them."""

import base64
import math
from pathlib import Path

import pytest
from mcp.client import Client
from mcp_types import ImageContent

from flows.core.training.recorder import LOG_SEGMENT, Recorder, record_folder
from tests.mcp_server.calls import Submit, error, ok
from tests.mcp_server.prefect_stub import PrefectServer

PNG = b"\x89PNG\r\n\x1a\n"


class Job:
    """A job on this machine that has a log and a record."""

    def __init__(self, prefect: PrefectServer, job_id: str, folder: Path) -> None:
        self.id = job_id
        self.log_path = folder / "log.txt"
        self.log_path.parent.mkdir(parents=True)
        self.log_path.touch()
        prefect.label(job_id, log_path=str(self.log_path))

    def record(self, losses: list[float], *, name: str = "loss", segment: str = "1") -> None:
        """Record a loss at each step, a second apart."""
        recorder = Recorder(record_folder(self.log_path), segment)
        if segment != LOG_SEGMENT:
            recorder.note("begin", {"step": 0})
        for step, loss in enumerate(losses, start=1):
            recorder.log(step, {name: loss}, at=1000.0 + step)
        recorder.close()


@pytest.fixture
async def job(submit: Submit, prefect: PrefectServer, tmp_path: Path) -> Job:
    submitted = await submit()
    return Job(prefect, submitted["job_id"], tmp_path / "job")


async def test_the_metrics_of_a_job_come_with_its_curve_and_a_chart(
    client: Client, job: Job
) -> None:
    job.record([3.0, math.nan, 1.0, 2.0])
    result = await client.call_tool("get_job_metrics", {"job_ids": [job.id]})
    assert result.structured_content is not None
    (found,) = result.structured_content["jobs"]
    assert found["job_id"] == job.id
    assert found["keys"] == [
        {
            "key": "loss",
            "count": 4,
            "not_finite": 1,
            "first": {"step": 1, "value": 3.0},
            "last": {"step": 4, "value": 2.0},
            "min": {"step": 3, "value": 1.0},
            "max": {"step": 1, "value": 3.0},
            "best": {"step": 3, "value": 1.0},
            "series": [[1, 3.0], [2, "nan"], [3, 1.0], [4, 2.0]],
        }
    ]
    text, chart = result.content
    assert text.type == "text"
    assert isinstance(chart, ImageContent)
    assert (chart.mime_type, base64.b64decode(chart.data)[:8]) == ("image/png", PNG)


async def test_a_chart_is_left_out_on_request_and_where_there_is_nothing_to_draw(
    client: Client, job: Job
) -> None:
    nothing = await client.call_tool("get_job_metrics", {"job_ids": [job.id]})
    assert nothing.structured_content is not None
    assert "has logged no metrics yet" in nothing.structured_content["summary"]
    assert len(nothing.content) == 1
    job.record([1.0])
    plain = await client.call_tool("get_job_metrics", {"job_ids": [job.id], "image": False})
    assert len(plain.content) == 1


async def test_long_curves_fit_into_an_answer_and_keep_their_spikes(
    client: Client, job: Job
) -> None:
    for name in ("loss", "eval_loss", "reward", "learning_rate", "grad_norm", "accuracy"):
        job.record([float(step % 7) + 99 * (step == 777) for step in range(20_000)], name=name)
    result = await client.call_tool("get_job_metrics", {"job_ids": [job.id], "image": False})
    (text,) = result.content
    assert text.type == "text"
    assert len(text.text.encode()) <= 12_000
    found = await ok(client, "get_job_metrics", job_ids=[job.id], image=False)
    assert "thinned from up to 20000 values" in found["summary"]
    for summary in found["jobs"][0]["keys"]:
        assert [value for step, value in summary["series"] if step == 778] == [99.0]


async def test_steps_before_the_first_one_asked_for_are_left_out(client: Client, job: Job) -> None:
    job.record([5.0, 4.0, 3.0])
    found = await ok(client, "get_job_metrics", job_ids=[job.id], since_step=2, image=False)
    assert found["jobs"][0]["keys"][0]["series"] == [[2, 4.0], [3, 3.0]]


async def test_a_metric_that_no_job_has_is_refused_with_those_there_are(
    client: Client, job: Job
) -> None:
    job.record([1.0])
    text = await error(client, "get_job_metrics", job_ids=[job.id], keys=["los"])
    assert text == "INVALID_ARGUMENT: No job has the metric los. Use one of: loss."


async def test_results_without_a_record_are_metrics_too(
    client: Client, prefect: PrefectServer, job: Job
) -> None:
    prefect.label(job.id, metrics='{"mmlu.acc": 0.5}')
    found = await ok(client, "get_job_metrics", job_ids=[job.id], image=False)
    (summary,) = found["jobs"][0]["keys"]
    assert (summary["key"], summary["series"]) == ("mmlu.acc", [[0, 0.5]])


async def test_a_job_that_does_not_exist_has_no_metrics(client: Client) -> None:
    text = await error(client, "get_job_metrics", job_ids=["0" * 8])
    assert text.startswith("JOB_NOT_FOUND: ")


async def test_a_diverged_job_is_diagnosed_with_evidence_and_advice(
    client: Client, prefect: PrefectServer, job: Job
) -> None:
    job.record([3.0, 2.5, 2.0, math.nan, math.nan, math.nan])
    prefect.set_states(job.id, "PENDING", "RUNNING")
    found = await ok(client, "diagnose_job", job_id=job.id)
    assert found["health"] == "bad"
    assert [finding["kind"] for finding in found["findings"]] == ["not_finite"]
    assert "step 4" in found["findings"][0]["evidence"]
    assert found["findings"][0]["try"]


async def test_a_failed_job_is_diagnosed_from_its_log(
    client: Client, prefect: PrefectServer, job: Job
) -> None:
    job.log_path.write_text(
        "Traceback (most recent call last):\n"
        '  File "/x/train.py", line 3, in <module>\n    import flash_attn\n'
        "ModuleNotFoundError: No module named 'flash_attn'\n"
    )
    prefect.set_states(job.id, "PENDING", "RUNNING", "FAILED", message="nonzero_exit: exit code 1")
    found = await ok(client, "diagnose_job", job_id=job.id)
    assert [finding["kind"] for finding in found["findings"]] == ["dependency"]
    assert "flash_attn" in found["findings"][0]["evidence"]


async def test_a_job_that_has_recorded_nothing_is_unknown(client: Client, job: Job) -> None:
    found = await ok(client, "diagnose_job", job_id=job.id)
    assert (found["health"], found["findings"]) == ("unknown", [])
