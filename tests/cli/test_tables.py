"""A terminal of 80 columns shows whole what a person copies, and times as people say them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.text import Text

from flows.core.models import JobPart, JobProgress, JobStatus
from flows.core.states import JobState
from flows.core.training.values import JobMetrics, MetricSummary, Point
from mcp_server.cli.family_commands import show_steps, show_values
from mcp_server.cli.following import display_of
from mcp_server.cli.options import STATUSES
from mcp_server.cli.output import Output
from mcp_server.cli.times import say_when, write_duration
from mcp_server.cli.training_commands import show_metrics
from mcp_server.cli.views import short_ids, show_configs, show_jobs, show_status
from mcp_server.services.catalog import ConfigSearch
from mcp_server.services.families.pipelines import PipelineSubmission, PlannedStep
from mcp_server.services.families.sweeps import SweepSubmission
from mcp_server.services.jobs.results import JobList, JobRow
from mcp_server.services.jobs.status import progress_words
from mcp_server.services.training.metrics import MetricsAnswer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "learning-rate-of-0.0003-and-seed-42"
ID = "7c459f95-9c55-451d-aabe-02d71035a5be"
PATH = "oumi/configs/recipes/llama3_1/sft/8b_lora/a_rather_long_name_of_a_file_train.yaml"
LONG = "metrics: " + "validation loss 0.1234, " * 20


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Output]:
    """Output to a terminal of 80 columns."""

    def open_it() -> Output:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")
        return Output()

    return open_it


def sweep(parts: list[JobPart]) -> JobStatus:
    """A running sweep."""
    return JobStatus(
        summary="s",
        job_id=ID,
        name="sweep",
        state=JobState.RUNNING,
        is_done=False,
        reachable=True,
        observed_at=NOW,
        parts=parts,
    )


def row(**changes: object) -> JobRow:
    base = JobRow(
        job_id=ID,
        name=NAME,
        state=JobState.RUNNING,
        command="train",
        cloud="local",
        model_name="tiny",
        created_at=datetime.now(UTC) - timedelta(seconds=190),
        duration_seconds=310,
        step=10,
        max_steps=60,
        loss=4.25,
    )
    return base.model_copy(update=changes)


def test_the_parts_of_a_sweep_keep_id_state_trial_and_value(
    capsys: pytest.CaptureFixture[str], narrow: Callable[[], Output]
) -> None:
    parts = [
        JobPart(name=NAME, state="running", value=0.123456, note=LONG, job_id=ID),
        JobPart(name="trial-2", state="waiting", note=LONG),
    ]
    status = sweep(parts)
    show_status(status, narrow())
    lines = capsys.readouterr().out.splitlines()
    first = next(line for line in lines if NAME in line)
    assert first.split()[:4] == [ID[:8], "running", NAME, "0.123456"]
    assert len(first.rstrip()) <= 80
    assert "…" in first


def test_the_path_of_a_config_is_whole(
    capsys: pytest.CaptureFixture[str], narrow: Callable[[], Output]
) -> None:
    found = ConfigSearch.model_validate(
        {
            "summary": "1 config.",
            "total": 1,
            "configs": [
                {
                    "path": PATH,
                    "task": "train",
                    "technique": "lora",
                    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
                    "gpu": "1x A100",
                    "description": "",
                    "config_type": "training",
                    "datasets": [],
                    "cloud": "",
                }
            ],
        }
    )
    show_configs(found, narrow())
    assert PATH in capsys.readouterr().out


@pytest.mark.parametrize("name", ["short", NAME, "n" * 100])
def test_jobs_keeps_its_key_columns_and_shows_more_where_there_is_room(
    capsys: pytest.CaptureFixture[str], narrow: Callable[[], Output], name: str
) -> None:
    output = narrow()
    show_jobs(JobList(summary="", jobs=[row(name=name, note=LONG)]), output)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:3] == [ID[:8], "running", name]
    if len(name) < 40:
        assert line.split()[3:7] == ["10", "of", "60", "4.25"]
        assert len(line.rstrip()) <= 80
    if name == "short":
        assert "3 min ago" in line
        assert "0:05:10" in line
        assert "tiny" in line


def test_a_column_without_any_value_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    plain = row(step=None, max_steps=None, loss=None, model_name="")
    show_jobs(JobList(summary="", jobs=[plain]), Output())
    assert capsys.readouterr().out.split()[:5] == ["ID", "STATE", "NAME", "CREATED", "DURATION"]


def test_ids_that_begin_alike_are_shown_as_far_as_they_differ() -> None:
    planned = ["0693a1b2-5001-7000-8000-000000000001", "0693a1b2-5001-7001-8000-000000000002"]
    assert short_ids([*planned, ID]) == ["0693a1b2-5001-7000", "0693a1b2-5001-7001", ID[:8]]
    assert short_ids(planned[:1]) == ["0693a1b2-5001-7000"]
    alike = ["7c459f95-9c55-4511-aabe-02d71035a5be", "7c459f95-9c55-4512-aabe-02d71035a5be"]
    assert short_ids(alike) == [one[:18] for one in alike]
    assert short_ids([ID, ID, "", ""]) == [ID[:8], ID[:8], "", ""]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (-3, "just now"),
        (7, "7 s ago"),
        (190, "3 min ago"),
        (2 * 3600 + 5, "2 h ago"),
        (86_400, "1 day ago"),
        (3 * 86_400, "3 days ago"),
        (-190, "in 3 min"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert say_when(NOW - timedelta(seconds=seconds), now=NOW) == words


def test_a_long_time_is_written_as_a_clock_shows_it() -> None:
    assert write_duration(310.2) == "0:05:10"
    assert progress_words(JobProgress(eta_seconds=3700)) == ["about 1:01:40 left"]
    assert progress_words(JobProgress(eta_seconds=50)) == ["about 50 s left"]


def test_no_value_of_an_option_is_a_name_of_the_program() -> None:
    assert not [status for status in map(repr, STATUSES) if "JobState" in status]


def test_a_sweep_that_is_watched_shows_the_running_part(
    capsys: pytest.CaptureFixture[str], narrow: Callable[[], Output]
) -> None:
    parts = [
        JobPart(name="trial-1", state="running", note="step 10 of 60, loss 4.2", job_id=ID),
        JobPart(name="trial-2", state="waiting"),
    ]
    status = sweep(parts)
    with display_of(narrow(), as_json=False) as show:
        show(status)
    drawn = " ".join(capsys.readouterr().out.split())
    assert "trial-1: step 10 of 60, loss 4.2" in drawn


def plain_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was written, without styles."""
    return Text.from_ansi(capsys.readouterr().out).plain.splitlines()


def test_metrics_keep_their_names_and_last_values(
    capsys: pytest.CaptureFixture[str], narrow: Callable[[], Output]
) -> None:
    point = Point(step=12_345, value=0.123456789)
    name = "rewards/a_rather_long_name_of_a_function/mean"
    one = MetricSummary(
        key=name, count=9, first=point, last=point, min=point, max=point, best=point, series=[]
    )
    answer = MetricsAnswer(summary="s", jobs=[JobMetrics(job_id=ID, keys=[one])])
    show_metrics(answer, narrow())
    lines = plain_lines(capsys)
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert f"{name}  " in lines[-1]
    assert "0.1235 @12345" in lines[-1]


def test_the_steps_of_a_pipeline_keep_their_names_and_the_files_of_this_folder(
    capsys: pytest.CaptureFixture[str],
    narrow: Callable[[], Output],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    step = PlannedStep(
        name=NAME,
        command="train",
        config_path=str(tmp_path / "configs" / "train.yaml"),
        cloud="local",
        output_dir="/out",
        after=[NAME, NAME],
        when=LONG,
    )
    plan = PipelineSubmission(summary="s", name="p", dry_run=True, steps=[step])
    show_steps(plan, narrow())
    lines = plain_lines(capsys)
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert lines[-1].split()[:3] == [NAME, "train", "configs/train.yaml"]


def test_the_values_of_a_sweep_have_short_headings_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], narrow: Callable[[], Output]
) -> None:
    keys = ["training.per_device_train_batch_size", "training.learning_rate", "training.optimizer"]
    values = dict(zip(keys, [16, 0.001, "adamw_torch"], strict=True))
    plan = SweepSubmission(summary="s", name="p", dry_run=True, trials=1, first_values=[values])
    show_values(plan, narrow())
    head, line = plain_lines(capsys)[1:]
    assert head.split() == ["TRIAL", "per_device_train_batch_size", "learning_rate", "optimizer"]
    assert line.split() == ["1", "16", "0.001", "adamw_torch"]
