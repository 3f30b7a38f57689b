"""run_pipeline and run_sweep: whatever is wrong is said before anything is started."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.settings import Settings
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.server import Options, build_server, make_parts
from mcp_server.services.families.listing import Families
from tests.mcp_server.calls import error, ok
from tests.mcp_server.test_arguments import no_engine


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with Client(build_server(make_parts(settings, no_engine), Options())) as connected:
        yield connected


def train(**fields: Any) -> dict[str, Any]:
    return {"name": "train", "config_path": "tiny.yaml", **fields}


def after(**fields: Any) -> dict[str, Any]:
    return {"name": "after", "config_path": "tiny.yaml", **fields}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([train(comand="train")], "Step train: there is no key 'comand'. Did you mean command?"),
        ([train(config_path="tinny.yaml")], "CONFIG_NOT_FOUND: Step train: there is no file"),
        ([{"name": "train"}], "Step train: config_path: Field required"),
        ([train(overrides={"training.max_step": 3})], "did you mean training.max_steps"),
        ([train(max_retries=-1)], "Step train: max_retries: Input should be greater"),
        ([train(cloud="gcp")], "Step train: "),
        ([train(output_dir="out")], "output_dir 'out' is for job configs"),
        ([train(each=[1, 2])], "Step train[1]: it writes to "),
        (
            [train(), after(needs=["train"], when="${train.metrics.eval_los} < 2")],
            "Step after: Pre-flight found what would make the job fail: unknown_metric: "
            "${train.metrics.eval_los}: the metric eval_los is of an evaluation, and this training "
            "makes none. Did you mean eval_loss? ",
        ),
        (
            [train(), after(envs={"API_TOKEN": "${train.output_dir}"})],
            "Step after: envs API_TOKEN holds a secret",
        ),
        (
            [train(), after(overrides={"training.max_steps": "${train.output_dir}"})],
            "Step after: overrides for oumi train: training.max_steps must be int",
        ),
        (
            [train(), after(config_path="${train.output_dir}/c.yaml")],
            "config_path refers to ${train.output_dir}, which is known only when",
        ),
        (
            [train(config_path="job.yaml"), after(envs={"X": "${train.output_dir}"})],
            "${train.output_dir}: train has no output_dir",
        ),
        ([train(), after()], "Step after: it writes to "),
        ([train(notify="no-receiver")], "Step train: notify is neither an http(s) URL nor"),
        (
            [train(needs=["tarin"])],
            "Step train needs tarin, which is not a step. Did you mean train?",
        ),
        ([], "no pipeline was given"),
    ],
)
async def test_a_pipeline_that_cannot_be_run_is_refused(
    client: Client, config: Path, steps: list[dict[str, Any]], says: str, dry_run: bool
) -> None:
    (config.parent / "job.yaml").write_text("resources: {cloud: local}\nrun: echo\n")
    line = await error(
        client, "run_pipeline", steps=steps, client_cwd=str(config.parent), dry_run=dry_run
    )
    assert says in line


async def test_steps_that_cannot_run_at_once_may_write_to_one_folder(
    client: Client, config: Path
) -> None:
    steps = [train(), after(needs=["train"])]
    plan = await ok(client, "run_pipeline", steps=steps, client_cwd=str(config.parent))
    first, second = plan["steps"]
    assert first["output_dir"] == second["output_dir"]


@pytest.mark.parametrize("value", ["${train.metrics.loss}", "loss ${train.metrics.loss}"])
async def test_a_number_that_a_step_will_leave_can_be_an_environment_variable(
    client: Client, config: Path, value: str
) -> None:
    (config.parent / "job.yaml").write_text("resources: {cloud: local}\nrun: echo $LOSS\n")
    steps = [train(), after(config_path="job.yaml", envs={"LOSS": value, "N": 5, "NONE": None})]
    plan = await ok(client, "run_pipeline", steps=steps, client_cwd=str(config.parent))
    assert [step["name"] for step in plan["steps"]] == ["train", "after"]


async def test_an_item_that_is_a_number_can_be_part_of_any_argument(
    client: Client, config: Path
) -> None:
    (config.parent / "job-2.yaml").write_text("resources: {cloud: local}\nrun: echo\n")
    step = after(
        config_path="job-${item}.yaml", job_name="${item}", max_retries="${index}", each=[2, 2]
    )
    plan = await ok(client, "run_pipeline", steps=[step], client_cwd=str(config.parent))
    assert [Path(one["config_path"]).name for one in plan["steps"]] == ["job-2.yaml"] * 2


async def test_a_reference_that_yaml_cannot_read_is_explained(client: Client, config: Path) -> None:
    text = "steps: [{name: a, config_path: tiny.yaml, envs: {LOSS: ${train.metrics.loss}}}]\n"
    (config.parent / "pipeline.yaml").write_text(text)
    given = {"pipeline_path": "pipeline.yaml", "client_cwd": str(config.parent)}
    assert "a reference in braces needs quotes" in await error(client, "run_pipeline", **given)


HERE = "Not checked yet: free disk, memory, GPUs and packages of the worker's machine, access to "
THERE = "Not checked yet: whether gcp can be used (its credentials), access to models and data"
PIPED = "resources: {cloud: gcp}\nrun: oumi infer | tee log\n"


async def test_a_plan_says_what_was_not_checked(client: Client, config: Path) -> None:
    cwd = str(config.parent)
    (config.parent / "job.yaml").write_text(PIPED)
    job = await ok(client, "run_oumi_job", config_path="tiny.yaml", client_cwd=cwd)
    assert job["warnings"][-1].startswith(HERE)
    assert "pre_flight_check (`oumi-flows check`) does" in job["warnings"][-1]
    given = {"config_path": "tiny.yaml", "client_cwd": cwd, "skip_preflight": True}
    (warning,) = (await ok(client, "run_oumi_job", **given))["warnings"]
    assert warning.startswith("skip_preflight is set: only keys and types were checked")
    given = {"config_path": "job.yaml", "client_cwd": cwd, "cloud": "gcp"}
    *found, last = (await ok(client, "run_oumi_job", **given))["warnings"]
    assert any("run pipes `oumi infer` into `tee`" in text for text in found)
    assert last.startswith(THERE)


async def test_the_plan_of_a_pipeline_says_what_was_not_checked(
    client: Client, config: Path
) -> None:
    (config.parent / "job.yaml").write_text(PIPED)
    steps = [train(), after(config_path="job.yaml", cloud="gcp", needs=["train"])]
    plan = await ok(client, "run_pipeline", steps=steps, client_cwd=str(config.parent))
    *found, cloud, here = plan["warnings"]
    assert any(text.startswith("after: run pipes `oumi infer` into `tee`: ") for text in found)
    assert (cloud.startswith(THERE), here.startswith(HERE)) == (True, True)


async def test_a_sweep_over_lists_tries_each_combination(client: Client, config: Path) -> None:
    sweep = {"config_path": "tiny.yaml", "metric": "loss"}
    points = [
        {"training.seed": 1, "training.max_steps": 2},
        {"training.seed": 3, "training.max_steps": 2},
    ]
    for space, tried in (
        ({"training.seed": [1, 2]}, [{"training.seed": 1}, {"training.seed": 2}]),
        (points, points),
    ):
        given = {"sweep": {**sweep, "space": space}, "client_cwd": str(config.parent)}
        plan = await ok(client, "run_sweep", **given)
        assert (plan["trials"], plan["first_values"]) == (2, tried)
        assert plan["warnings"][-1].startswith(HERE)


async def test_a_plan_warns_of_a_metric_that_is_unlikely(client: Client, config: Path) -> None:
    sweep = {
        "config_path": "tiny.yaml",
        "space": {"training.eval_strategy": ["no", "steps"]},
        "metric": "eval_loss",
        "direction": "maximize",
    }
    given = {"sweep": sweep, "client_cwd": str(config.parent)}
    first, second, *_ = (await ok(client, "run_sweep", **given))["warnings"]
    assert "the metric eval_loss is of an evaluation, and this training makes none" in first
    assert "by its name eval_loss is better the lower it is" in second
    unchecked = {"sweep": {**sweep, "metric": "mine", "skip_preflight": True}}
    (warning,) = (await ok(client, "run_sweep", **given | unchecked))["warnings"]
    assert warning.startswith("skip_preflight is set")


async def test_the_receiver_of_a_whole_is_checked(client: Client, config: Path) -> None:
    given = {"client_cwd": str(config.parent), "notify": "no-receiver"}
    assert "notify is neither" in await error(client, "run_pipeline", steps=[train()], **given)
    assert "notify is neither" in await error(client, "run_sweep", sweep={"a": 1}, **given)


async def test_the_plan_of_a_pipeline_says_what_would_run(client: Client, config: Path) -> None:
    # Metrics are not known yet: a number stands for them, whole, so that it goes anywhere.
    steps = [
        train(),
        after(
            overrides={
                "model.model_name": "${train.output_dir}",
                "training.max_steps": "${train.metrics.step}",
                "training.output_dir": "second",
            },
            when="${train.metrics.loss} < 2",
        ),
    ]
    plan = await ok(client, "run_pipeline", steps=steps, client_cwd=str(config.parent))
    assert plan["summary"] == "Dry run, nothing was started: pipeline pipeline, 2 jobs."
    assert plan["steps"][1] == {
        "name": "after",
        "command": "train",
        "config_path": str(config),
        "cloud": "local",
        "output_dir": str(config.parent / "second"),
        "after": ["train"],
        "when": "${train.metrics.loss} < 2",
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"config_path": "no.yaml"}, "CONFIG_NOT_FOUND"),
        ({"space": {"training.max_stepz": [1]}}, "did you mean training.max_steps"),
        ({"space": {"training.max_steps": [1, "x"]}}, "training.max_steps must be int"),
        ({"metrics": "loss"}, "there is no key 'metrics'"),
        ({"metric": "eval_loss"}, "the metric eval_loss is of an evaluation, and this training"),
        (
            {"metric": "los"},
            "unknown_metric: a training with HF leaves no metric los. Did",
        ),
        ({"config_path": "job.yaml"}, "Sweep environment variables, as envs.LEARNING_RATE"),
        ({"space": {"training.learning_rate": [0.1]}, "search": "maybe"}, "search: Input should"),
    ],
)
async def test_a_sweep_that_cannot_be_run_is_refused(
    client: Client, config: Path, fields: dict[str, Any], says: str
) -> None:
    (config.parent / "job.yaml").write_text("resources: {cloud: local}\nrun: echo\n")
    given = {
        "config_path": "tiny.yaml",
        "space": {"training.max_steps": [1, 2]},
        "metric": "loss",
        "search": "grid",
    }
    line = await error(client, "run_sweep", sweep=given | fields, client_cwd=str(config.parent))
    assert says in line


async def test_the_plan_of_a_sweep_says_what_is_tried(client: Client, config: Path) -> None:
    sweep = {
        "config_path": "tiny.yaml",
        "space": {"training.max_steps": [1, 2]},
        "metric": "loss",
        "search": "grid",
    }
    plan = await ok(client, "run_sweep", sweep=sweep, client_cwd=str(config.parent))
    assert plan["summary"] == (
        "Dry run, nothing was started: 2 trials by grid, 2 at once to minimize loss."
    )
    assert plan["first_values"] == [{"training.max_steps": 1}, {"training.max_steps": 2}]


async def test_a_pipelines_file_is_scheduled_as_a_pipeline(client: Client, config: Path) -> None:
    file = config.parent / "nightly.yaml"
    file.write_text(f"steps: [{{name: train, config_path: {config.name}}}]\n")
    given = {"config_path": file.name, "client_cwd": str(config.parent), "cron": "0 2 * * *"}
    plan = await ok(client, "schedule_job", **given)
    assert plan["summary"].startswith("Dry run, no schedule was made: nightly would run cron 0 2")
    assert (plan["command"], plan["config_path"], plan["job_config"]) == (
        "pipeline",
        str(file),
        None,
    )
    line = await error(client, "schedule_job", **given, max_retries=2, cloud="gcp")
    assert line.startswith("INVALID_ARGUMENT: cloud, max_retries is for a job")
    file.write_text("steps: [{name: train, config_path: no.yaml}]\n")
    assert "Step train: there is no file" in await error(client, "schedule_job", **given)


class _Many(PrefectGateway):
    """A server with more children than it answers with at once."""

    def __init__(self, runs: list[FlowRun]) -> None:
        self._runs = runs

    async def filter_runs(
        self, wanted: RunFilter, *, limit: int, offset: int = 0, oldest_first: bool = False
    ) -> list[FlowRun]:
        return self._runs[offset : offset + min(limit, MAX_PAGE)]


@pytest.mark.parametrize("has_failed", [False, True])
async def test_a_failed_trial_is_found_behind_many_that_were_stopped_early(
    has_failed: bool,
) -> None:
    now = datetime.now(UTC)
    state = {"type": "CANCELLED", "name": "Cancelled", "timestamp": now}

    def run(number: int, why: str) -> FlowRun:
        given = {"id": str(number), "name": "trial", "created": now, "expected_start_time": now}
        return FlowRun.model_validate(
            {**given, "state": state, "labels": {"oumi.stopped_early": why}}
        )

    runs = [run(number, "hopeless") for number in range(2 * MAX_PAGE)]
    if has_failed:
        runs.append(run(-1, ""))  # it was retried and failed
    assert await Families(_Many(runs)).has_failed_parts(run(-2, "")) is has_failed
