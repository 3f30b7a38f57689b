from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from tests.cli.conftest import Terminal


def test_run_writes_the_id_alone_to_stdout_and_the_rest_to_stderr(terminal: Terminal) -> None:
    done = terminal("run", "tiny.yaml")
    job_id = done.out.strip()
    run = terminal.prefect.read_run(job_id)
    assert (done.code, done.out) == (0, f"{job_id}\n")
    assert f"{run['name']} is scheduled" in done.err
    assert run["name"] == f"train-tiny-{job_id[:8]}"
    assert terminal.engine.brought_up


def test_the_options_of_run_reach_the_job(terminal: Terminal, folder: Path) -> None:
    (folder / "infer.yaml").write_text("model: {model_name: tiny}\ninput_path: in.jsonl\n")
    (folder / "in.jsonl").write_text("")
    options = [
        *("--command", "infer", "--job-name", "mine", "--idempotency-key", str(folder)),
        *("--max-retries", "3", "--skip-preflight", "--set", "generation.seed=7", "--detach"),
    ]
    job_id = terminal.submit(*options, config="infer.yaml")
    request = terminal.request(job_id)
    assert request["config_path"] == str(folder / "infer.yaml")
    assert request["client_cwd"] == str(folder)
    assert (request["command"], request["job_name"]) == ("infer", "mine")
    assert (request["max_retries"], request["skip_preflight"]) == (3, True)
    assert request["overrides"] == {"generation.seed": 7}
    assert terminal.submit(*options, config="infer.yaml") == job_id


def test_run_names_the_cloud_and_the_cluster(terminal: Terminal, folder: Path) -> None:
    (folder / "job.yaml").write_text("name: x\nresources: {cloud: gcp}\nrun: echo\n")
    job_id = terminal.submit("--cloud", "gcp", "--cluster-name", "big", config="job.yaml")
    request = terminal.request(job_id)
    assert (request["cloud"], request["cluster_name"]) == ("gcp", "big")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("steps", "INVALID_ARGUMENT"),
        ("=1", "INVALID_ARGUMENT"),
        ("a={b: 1}", "INVALID_ARGUMENT"),
        ("a=[", "INVALID_CONFIG"),
    ],
)
def test_a_bad_set_is_refused_before_anything_starts(
    terminal: Terminal, text: str, code: str
) -> None:
    done = terminal("run", "tiny.yaml", "--set", text)
    assert done.code == 2
    assert done.err.startswith(f"{code}: --set ")
    assert not terminal.engine.brought_up


def test_a_dry_run_shows_the_plan_and_needs_no_engine(terminal: Terminal) -> None:
    done = terminal("run", "tiny.yaml", "--dry-run")
    assert done.code == 0
    assert "nothing was started" in done.out
    assert "Not checked yet: " in done.err
    assert not terminal.engine.brought_up


@pytest.mark.parametrize(
    ("end", "code"), [("COMPLETED", 0), ("FAILED", 1), ("CRASHED", 1), ("CANCELLED", 3)]
)
def test_run_watch_exits_as_the_job_ended(terminal: Terminal, end: str, code: int) -> None:
    terminal.steps += [terminal.into("PENDING", "RUNNING"), terminal.into(end)]
    done = terminal("run", "tiny.yaml", "--watch")
    assert done.code == code
    first, *_ = done.out.splitlines()
    assert terminal.prefect.read_run(first)["state"]["type"] == end


@pytest.mark.parametrize(
    "arguments",
    [
        ("--watch", "--dry-run"),
        ("--max-retries", "101"),
        ("--max-retries", "many"),
        ("--job-name", "x" * 101),
        ("--idempotency-key", "x" * 201),
        ("--nonsense",),
    ],
)
def test_arguments_out_of_bounds_are_refused_in_one_line(
    terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    done = terminal("run", "tiny.yaml", *arguments)
    assert done.code == 2
    assert done.err.startswith("INVALID_ARGUMENT: ")
    assert done.err.count("\n") == 1
    assert not terminal.engine.brought_up


def test_a_folder_that_is_gone_is_said_to_be(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = terminal("run", "c.yaml")
    assert (done.code, done.err) == (
        2,
        "INVALID_ARGUMENT: The current folder no longer exists. Go to another folder.\n",
    )


def test_run_without_an_engine_exits_with_5(terminal: Terminal) -> None:
    terminal.engine.error = EngineUnavailable("The server is gone", "Run `oumi-flows up`")
    assert terminal("run", "tiny.yaml").code == 5


def test_gpus_are_a_number_or_all(terminal: Terminal) -> None:
    assert "2 processes on 2 GPUs" in terminal("run", "tiny.yaml", "--gpus", "2", "--dry-run").out
    assert "on all GPUs" in terminal("run", "tiny.yaml", "--gpus", "all", "--dry-run").out
    for words in (("run", "tiny.yaml"), ("check", "tiny.yaml")):
        done = terminal(*words, "--gpus", "none")
        assert done.code == 2
        assert done.err.startswith("INVALID_ARGUMENT: --gpus")


def test_a_run_that_a_check_blocks_exits_with_2(terminal: Terminal, folder: Path) -> None:
    (folder / "data.yaml").write_text(
        "model:\n  model_name: tiny\ndata:\n  train:\n    datasets:\n"
        "      - dataset_name: text_sft_jsonl\n        dataset_path: ./none.jsonl\n"
        "training:\n  output_dir: out\n"
    )
    done = terminal("run", "data.yaml")
    assert done.err.startswith("PREFLIGHT_BLOCKED: ")
    assert done.code == 2
