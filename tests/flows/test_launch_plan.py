"""What an attempt launches: where it goes on from, and where it writes."""

import hashlib
import io
import logging
import os
import shlex
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun

from flows.core import names
from flows.core.configs.marks import MARK
from flows.core.errors import InvalidConfig
from flows.core.models import Command, JobRequest
from flows.core.provenance import load
from flows.core.run_labels import RunLabels
from flows.core.settings import Settings
from flows.job.launch_plan import LaunchPlan, PreparedLaunch
from flows.job.run_record import RunRecord
from flows.job.shared_output import Sharing
from flows.launcher.progress_hook import SIGN, ProgressReports

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

BEGAN = datetime(2026, 11, 24, 1, 0, 5, tzinfo=UTC)
DUE = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
RUN_ID = UUID("01a207af-1111-7222-8333-444455556666")
OTHER_ID = UUID("01a207af-9999-7222-8333-444455556666")
MODEL = "model: {model_name: tiny}\n"
TRYING = "training: {output_dir: out, try_resume_from_last_checkpoint: true}\n"
NOT_TRYING = "--[training].try_resume_from_last_checkpoint=false"
PLAIN = "training: {output_dir: out}\n"


@dataclass
class State:
    global_step: int
    max_steps: int = 5000
    is_world_process_zero: bool = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    folder.mkdir()
    return folder


def save(folder: Path, step: int, *, after: float, is_whole: bool = True) -> Path:
    """A checkpoint, written so many seconds after the run began."""
    path = folder / "out" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    written = [path / "model.safetensors", path / "trainer_state.json"][: 1 + is_whole]
    for file in written:
        file.write_text('{"global_step": 1}')
        at = (BEGAN + timedelta(seconds=after)).timestamp()
        os.utime(file, (at, at))
    return path


def mark(path: Path, key: str) -> Path:
    """Mark a checkpoint as the progress hook does once it is whole."""
    state = State(global_step=int(path.name.removeprefix("checkpoint-")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(names.JOB_KEY_ENV, key)
        ProgressReports(stream=io.StringIO()).on_save(
            SimpleNamespace(output_dir=str(path.parent)), state, None
        )
    assert (path / MARK).exists()
    return path


def plan_of(
    folder: Path,
    text: str,
    *,
    labels: dict[str, Any] | None = None,
    command: Command = Command.TRAIN,
    **request: Any,
) -> LaunchPlan:
    config = folder / "config.yaml"
    config.write_text(text if "run:" in text else MODEL + text)
    facts = {"id": RUN_ID, "flow_id": RUN_ID, "start_time": BEGAN, "expected_start_time": DUE}
    run = FlowRun.model_validate(facts | {"labels": labels or {}})
    asked = JobRequest(config_path=str(config), client_cwd=str(folder), command=command, **request)
    record = RunRecord(run, cast("PrefectClient", None))
    settings = Settings(home=folder.parent / "home")
    return LaunchPlan(asked, record, settings, logging.getLogger("test"))


def script_of(plan: LaunchPlan, attempt: int, *, sharing: Sharing | None = None) -> str:
    """The command of an attempt, without quotes."""
    return script_in(plan.prepare(attempt, sharing=sharing))


def script_in(prepared: PreparedLaunch) -> str:
    return " ".join(shlex.split(yaml.safe_load(prepared.job_config)["run"]))


def test_another_attempt_goes_on_from_the_last_checkpoint_of_its_job(folder: Path) -> None:
    path = save(folder, 20, after=60)
    save(folder, 40, after=90, is_whole=False)
    prepared = plan_of(folder, PLAIN).prepare(2)
    assert script_in(prepared).endswith(f"--training.resume_from_checkpoint={path}")
    assert prepared.labels == RunLabels(resumed_attempt=2, resumed_from_step=20)


def test_a_checkpoint_that_another_job_left_is_not_taken_for_ours(folder: Path) -> None:
    save(folder, 1000, after=-86_400)
    plan = plan_of(folder, PLAIN)
    assert "resume" not in script_of(plan, 2)
    path = save(folder, 300, after=60)
    assert script_of(plan, 2).endswith(f"={path}")


def test_a_checkpoint_may_look_a_little_older_than_its_job(folder: Path) -> None:
    path = save(folder, 20, after=-1)
    assert script_of(plan_of(folder, PLAIN), 2).endswith(f"={path}")


def test_of_two_trainings_in_one_folder_each_goes_on_from_its_own_checkpoint(folder: Path) -> None:
    mine = mark(save(folder, 100, after=60), names.launch_key(RUN_ID, 1))
    mark(save(folder, 460, after=90), names.launch_key(OTHER_ID, 1))
    prepared = plan_of(folder, PLAIN).prepare(2)
    assert script_in(prepared).endswith(f"={mine}")
    assert prepared.labels.resumed_from_step == 100


def test_a_checkpoint_of_any_attempt_of_the_job_is_its_own_however_old_its_files_look(
    folder: Path,
) -> None:
    path = mark(save(folder, 40, after=-86_400), names.launch_key(RUN_ID, 2))
    assert script_of(plan_of(folder, PLAIN), 3).endswith(f"={path}")


def test_a_copied_folder_of_another_job_is_still_that_jobs(folder: Path) -> None:
    path = mark(save(folder, 460, after=90), names.launch_key(OTHER_ID, 1))
    shutil.copytree(path, folder / "out" / "checkpoint-500")
    shutil.rmtree(path)
    assert "resume" not in script_of(plan_of(folder, PLAIN), 2)


def test_a_checkpoint_that_another_training_wrote_over_is_not_ours_any_more(folder: Path) -> None:
    path = mark(save(folder, 40, after=60), names.launch_key(RUN_ID, 1))
    (path / "trainer_state.json").write_text('{"global_step": 40, "loss": 5.97}')
    assert "resume" not in script_of(plan_of(folder, PLAIN), 2)


def test_a_checkpoint_whose_weights_another_training_began_to_replace_is_not_whole(
    folder: Path,
) -> None:
    path = mark(save(folder, 40, after=60), names.launch_key(RUN_ID, 1))
    at = (BEGAN + timedelta(seconds=90)).timestamp()
    os.utime(path / "model.safetensors", (at, at))
    assert "resume" not in script_of(plan_of(folder, PLAIN), 2)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"job": "oumi-1"}', "\x00", "[" * 5000])
def test_a_checkpoint_with_a_spoiled_mark_belongs_to_no_job(folder: Path, text: str) -> None:
    (save(folder, 40, after=60) / MARK).write_text(text)
    assert "resume" not in script_of(plan_of(folder, PLAIN), 2)


def test_a_checkpoint_without_a_mark_is_not_of_a_job_that_marks_its_own(folder: Path) -> None:
    mine = mark(save(folder, 20, after=30), names.launch_key(RUN_ID, 1))
    save(folder, 40, after=60)
    assert script_of(plan_of(folder, PLAIN), 2).endswith(f"={mine}")


def test_a_checkpoint_without_a_mark_is_not_of_a_job_whose_training_said_that_it_marks(
    folder: Path,
) -> None:
    save(folder, 40, after=60)
    job = folder.parent / "jobs" / names.launch_key(RUN_ID, 1)
    job.mkdir(parents=True)
    labels = {"oumi.log_path": str(job / "log.txt")}
    assert "resume" in script_of(plan_of(folder, PLAIN, labels=labels), 2)
    (job / SIGN).touch()
    assert "resume" not in script_of(plan_of(folder, PLAIN, labels=labels), 2)


def test_without_marks_nothing_is_gone_on_from_where_another_job_wrote_meanwhile(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(folder, 40, after=60)
    plan = plan_of(folder, PLAIN)
    sharing = Sharing(["train-other (01a207af)"])
    with caplog.at_level(logging.INFO):
        assert "resume" not in script_of(plan, 2, sharing=sharing)
    assert "train-other (01a207af)" in caplog.text


def test_without_marks_nothing_is_gone_on_from_beside_a_marked_one_of_another_job(
    folder: Path,
) -> None:
    save(folder, 40, after=60)
    mark(save(folder, 20, after=30), names.launch_key(OTHER_ID, 1))
    assert "resume" not in script_of(plan_of(folder, PLAIN), 2)


def test_beside_a_live_job_a_copy_of_ones_own_checkpoint_is_gone_on_from(folder: Path) -> None:
    path = mark(save(folder, 40, after=60), names.launch_key(RUN_ID, 1))
    plan = plan_of(folder, PLAIN)
    sharing = Sharing(["train-other (01a207af)"], is_live=True)
    copy = folder / "out" / f"kept-{RUN_ID.hex[:12]}" / "checkpoint-40"
    assert script_of(plan, 2, sharing=sharing).endswith(f"={copy}")
    assert {one.name for one in copy.iterdir()} == {one.name for one in path.iterdir()}
    mark(path, names.launch_key(OTHER_ID, 1))
    later = plan_of(folder, PLAIN)
    assert script_of(later, 3).endswith(f"={copy}")


def test_a_checkpoint_that_is_written_over_while_it_is_copied_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mark(save(folder, 40, after=60), names.launch_key(RUN_ID, 1))
    copies = shutil.copytree

    def copytree(source: Path, target: Path) -> None:
        (path / "model.safetensors").write_text("of another training")
        copies(source, target)

    monkeypatch.setattr(shutil, "copytree", copytree)
    plan = plan_of(folder, PLAIN)
    sharing = Sharing(["train-other (01a207af)"], is_live=True)
    assert "resume" not in script_of(plan, 2, sharing=sharing)


def test_taking_a_checkpoint_without_a_mark_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(folder, 40, after=60)
    with caplog.at_level(logging.INFO):
        assert script_of(plan_of(folder, PLAIN), 2).endswith(f"={path}")
    assert f"{path} has no mark" in caplog.text


def test_an_attempt_before_the_one_that_started_over_is_passed_over_by_its_number(
    folder: Path,
) -> None:
    mark(save(folder, 180, after=60), names.launch_key(RUN_ID, 1))
    labels = {"oumi.fresh_attempt": 2, "oumi.fresh_since": BEGAN.timestamp() + 30}
    assert "resume" not in script_of(plan_of(folder, PLAIN, labels=labels), 3)
    path = mark(save(folder, 20, after=90), names.launch_key(RUN_ID, 2))
    assert script_of(plan_of(folder, PLAIN, labels=labels), 3).endswith(f"={path}")


def test_a_config_that_goes_on_from_older_jobs_does_not_from_a_live_one(folder: Path) -> None:
    old = mark(save(folder, 100, after=-86_400), names.launch_key(OTHER_ID, 1))
    mark(save(folder, 460, after=90), names.launch_key(OTHER_ID, 1))
    assert script_of(plan_of(folder, TRYING), 2).endswith(f"={old}")


def test_what_came_before_a_fresh_attempt_is_not_gone_on_from(folder: Path) -> None:
    save(folder, 180, after=60)
    prepared = plan_of(folder, PLAIN, labels={"oumi.fresh_attempt": 2}).prepare(2)
    assert "resume" not in script_in(prepared)
    since = prepared.labels.fresh_since
    labels = {"oumi.fresh_attempt": 2, "oumi.fresh_since": since}
    later = plan_of(folder, PLAIN, labels=labels)
    assert "resume" not in script_of(later, 3)
    path = save(folder, 20, after=datetime.now(UTC).timestamp() + 9 - BEGAN.timestamp())
    assert script_of(later, 3).endswith(f"={path}")


@pytest.mark.parametrize("labels", [{}, {"oumi.fresh_attempt": 2}])
def test_oumi_is_not_left_to_pick_a_half_written_checkpoint(
    folder: Path, labels: dict[str, Any]
) -> None:
    save(folder, 20, after=60, is_whole=False)
    plan = plan_of(folder, TRYING, labels=labels)
    assert "resume" not in script_of(plan, 1)
    assert script_of(plan, 2).endswith(NOT_TRYING)


def test_a_fresh_attempt_begins_anew_whatever_the_config_tries(folder: Path) -> None:
    save(folder, 20, after=60)
    labels = {"oumi.fresh_attempt": 2}
    script = script_of(plan_of(folder, TRYING, labels=labels), 2)
    assert script.endswith(NOT_TRYING)


def test_a_config_that_goes_on_from_older_jobs_does_so_at_each_attempt(folder: Path) -> None:
    path = save(folder, 1000, after=-86_400)
    assert script_of(plan_of(folder, TRYING), 2).endswith(f"={path}")


def test_verl_which_knows_its_own_whole_checkpoints_is_left_to_it(folder: Path) -> None:
    text = TRYING.replace("{output_dir", "{trainer_type: VERL_GRPO, output_dir")
    assert "resume" not in script_of(plan_of(folder, text), 2)
    fresh = plan_of(folder, text, labels={"oumi.fresh_attempt": 2})
    assert script_of(fresh, 2).endswith(NOT_TRYING)


@pytest.mark.parametrize(
    ("command", "text", "option", "own"),
    [
        (Command.TRAIN, PLAIN, "--training.output_dir=", "out/{}"),
        (Command.TRAIN, "", "--training.output_dir=", "output/{}"),
        (Command.EVALUATE, "output_dir: /a/b/\n", "--output_dir=", "/a/b/{}"),
        (
            Command.INFER,
            "input_path: in.jsonl\noutput_path: out/answers.jsonl\n",
            "--output_path=",
            "out/{}/answers.jsonl",
        ),
    ],
)
def test_a_run_of_a_schedule_writes_to_a_folder_of_its_own(
    folder: Path, command: Command, text: str, option: str, own: str
) -> None:
    plan = plan_of(folder, text, command=command, own_output=True)
    place = own.format("20261124T010000Z-01a207af")
    prepared = plan.prepare(1)
    assert option + place in script_in(prepared).split()
    written = folder / place
    written = written.parent if command is Command.INFER else written
    assert prepared.labels == RunLabels(output_dir=str(written))


def test_an_attempt_of_a_schedules_run_goes_on_in_its_own_folder(folder: Path) -> None:
    save(folder, 40, after=60)
    own = folder / "out" / "20261124T010000Z-01a207af"
    own.mkdir()
    path = save(folder, 20, after=60).rename(own / "checkpoint-20")
    plan = plan_of(folder, PLAIN, own_output=True)
    assert script_of(plan, 2).endswith(f"--training.resume_from_checkpoint={path}")


def test_a_job_config_says_itself_where_it_writes(folder: Path) -> None:
    plan = plan_of(folder, "resources: {cloud: local}\nrun: echo\n", own_output=True)
    assert script_of(plan, 1) == "echo"


def test_what_a_job_configs_script_trains_on_is_recorded(folder: Path) -> None:
    project = folder / "project"
    project.mkdir()
    for name, text in (
        ("data.jsonl", "{}"),
        (
            "train.yaml",
            f"{MODEL}data: {{train: {{datasets: [{{dataset_name: text_sft, "
            "dataset_path: data.jsonl}]}}\ntraining: {seed: 7}\n",
        ),
    ):
        (project / name).write_text(text)
    job = "resources: {cloud: local}\nworking_dir: project\nrun: oumi train -c train.yaml\n"
    plan = plan_of(folder, job)
    label = plan.keep_provenance().provenance
    record = load(label or "", folder.parent / "home" / "records")
    assert record is not None
    assert record.seed == 7
    assert {str(project / "train.yaml"), str(project / "data.jsonl")} <= set(record.data)


@pytest.mark.parametrize("hash_is_known", [True, False])
def test_a_launch_reads_its_config_once(folder: Path, *, hash_is_known: bool) -> None:
    text = "resources: {cloud: local}\nrun: echo\n"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    plan = plan_of(folder, text, config_sha256=sha256 if hash_is_known else None)
    assert plan.secrets() == []
    (folder / "config.yaml").unlink()
    plan.launch()
    assert script_of(plan, 1) == "echo"
    assert plan.keep_provenance().provenance


def test_all_gpus_are_those_that_the_worker_sees(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    plan = plan_of(folder, PLAIN, gpus="all")
    prepared = plan.prepare(1)
    assert "--nproc-per-node=3 -m oumi train" in script_in(prepared)
    assert yaml.safe_load(prepared.job_config)["envs"][names.GPUS_ENV] == "3"
    assert plan.launch().recipes[0].processes == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InvalidConfig, match="gpus is all, and the worker's machine has none"):
        plan_of(folder, PLAIN, gpus="all").prepare(1)
