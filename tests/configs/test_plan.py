import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.configs.plan import JobPlan, make_plan
from flows.core.configs.reader import ConfigKind, load_snapshot, read_config, save_snapshot
from flows.core.errors import (
    CloudUnavailable,
    Conflict,
    InvalidArgument,
    InvalidConfig,
    OumiFlowsError,
)
from flows.core.models import Command, JobRequest

MODEL = "model: {model_name: some/model}\n"
SYNTH = "inference_config: {model: {model_name: m}}\n"
ENVS = {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"}


def plan_for(folder: Path, text: str, **fields: Any) -> JobPlan:
    path = folder / "config.yaml"
    path.write_text(text)
    request = JobRequest(config_path=str(path), client_cwd=str(folder), **fields)
    return make_plan(request, read_config(path))


def test_a_training_config_runs_oumi_train_in_the_clients_folder(tmp_path: Path) -> None:
    plan = plan_for(
        tmp_path,
        MODEL + "training: {output_dir: runs/sft}\n",
        overrides={"training.max_steps": 60, "training.run_name": "it's mine"},
    )
    argv = [
        "oumi",
        "train",
        "-c",
        f"{tmp_path}/config.yaml",
        "--training.max_steps=60",
        "--training.run_name=it's mine",
    ]
    assert yaml.safe_load(plan.job_config) == {
        "name": "train-model",
        "resources": {"cloud": "local"},
        "working_dir": str(tmp_path),
        "envs": ENVS,
        "run": shlex.join(argv),
    }
    assert plan == JobPlan(
        kind=ConfigKind.COMMAND,
        name="train-model",
        cloud="local",
        cluster_name="local",
        argv=argv,
        job_config=plan.job_config,
        working_dir=str(tmp_path),
        output_dir=f"{tmp_path}/runs/sft",
        model_name="some/model",
        files={
            "config": f"{tmp_path}/config.yaml",
            "working_dir": str(tmp_path),
            "output": f"{tmp_path}/runs/sft",
            "checkpoints": f"{tmp_path}/runs/sft/checkpoint-<step>",
        },
        processes=1,
        effective_batch_size=8,
    )


def test_a_plan_runs_the_config_as_it_was_submitted(tmp_path: Path) -> None:
    snapshots = tmp_path / "kept"
    sha256 = save_snapshot(MODEL, snapshots)
    request = JobRequest(
        config_path=f"{tmp_path}/gone.yaml", client_cwd=str(tmp_path), config_sha256=sha256
    )
    plan = make_plan(request, load_snapshot(sha256, snapshots))
    assert plan.argv == ["oumi", "train", "-c", f"{snapshots}/{sha256}.yaml"]
    assert plan.files["config"] == request.config_path


def test_the_script_survives_spaces_and_quotes_in_paths(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "my" $HOME; folder'
    folder.mkdir()
    plan = plan_for(folder, MODEL, job_name="My job: it's/../../x 😀")
    job = yaml.safe_load(plan.job_config)
    assert shlex.split(job["run"]) == plan.argv
    assert job["working_dir"] == str(folder)
    assert plan.name == "my-job-it-s-x"


@pytest.mark.parametrize(
    ("command", "text", "overrides", "output_dir", "output"),
    [
        (Command.TRAIN, MODEL, {}, "output", "output"),
        (Command.TRAIN, MODEL, {"training.output_dir": "../x"}, "../x", "../x"),
        (Command.TRAIN, MODEL, {"training.output_dir": "/abs/x"}, "/abs/x", "/abs/x"),
        (Command.TUNE, MODEL, {}, "output", "output"),
        (Command.EVALUATE, MODEL, {"output_dir": "e"}, "e", "e"),
        (Command.INFER, MODEL + "input_path: a\noutput_path: o/b.jsonl\n", {}, "o", "o/b.jsonl"),
        (Command.INFER, MODEL, {"input_path": "a"}, None, None),
        (Command.SYNTH, "inference_config: {model: {model_name: m}}\n", {}, None, None),
        (Command.ANALYZE, "output_path: out\n", {}, "out", "out"),
        (Command.ANALYZE, "split: test\n", {"output_path": "o"}, "o", "o"),
        (Command.QUANTIZE, MODEL, {}, "quantized_model", "quantized_model"),
    ],
)
def test_a_plan_says_where_results_go(
    tmp_path: Path,
    command: Command,
    text: str,
    overrides: dict[str, Any],
    output_dir: str | None,
    output: str | None,
) -> None:
    plan = plan_for(tmp_path, text, command=command, overrides=overrides)
    assert plan.output_dir == (str((tmp_path / output_dir).resolve()) if output_dir else None)
    assert plan.files.get("output") == (str((tmp_path / output).resolve()) if output else None)


@pytest.mark.parametrize(
    "path",
    [
        "~/x",
        "$HOME/x",
        "${HOME}/x",
        "${oc.env:HOME}/x",
        "${oc.env:NOT_SET,~}/x",
        "${oc.env:NOT_SET,${oc.env:HOME}}/x",
        '${oc.env:NOT_SET,"/home/me"}/x',
        "$FOLDER",
    ],
)
@pytest.mark.parametrize(
    ("command", "text", "key", "option"),
    [
        (Command.TRAIN, MODEL, "training.output_dir", "--training.output_dir={}"),
        (Command.TRAIN, MODEL, "training.logging_dir", "--training.logging_dir={}"),
        (
            Command.TRAIN,
            MODEL,
            "training.telemetry.telemetry_dir",
            "--training.telemetry.telemetry_dir={}",
        ),
        (
            Command.TRAIN,
            MODEL,
            "training.resume_from_checkpoint",
            "--training.resume_from_checkpoint={}",
        ),
        (Command.TUNE, MODEL, "tuning.output_dir", "--tuning.output_dir={}"),
        (Command.EVALUATE, MODEL, "output_dir", "--output_dir={}"),
        (Command.INFER, MODEL + "input_path: a\n", "output_path", "--output_path={}"),
        (Command.ANALYZE, "split: test\n", "output_path", "--output={}"),
        (Command.QUANTIZE, MODEL, "output_path", "--output={}"),
        (Command.SYNTH, SYNTH, "output_path", "--output_path={}"),
    ],
)
def test_a_path_that_is_written_to_is_written_out_wherever_it_is_given(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    text: str,
    key: str,
    option: str,
    path: str,
) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.delenv("NOT_SET", raising=False)
    envs = {"HOME": "/home/me", "FOLDER": "/home/me/x"}
    data: dict[str, Any] = yaml.safe_load(text) or {}
    holder = data
    for part in key.split(".")[:-1]:
        holder = holder.setdefault(part, {})
    given = plan_for(
        tmp_path, yaml.safe_dump(data), command=command, overrides={key: path}, envs=envs
    )
    holder[key.rpartition(".")[2]] = path
    written = plan_for(tmp_path, yaml.safe_dump(data), command=command, envs=envs)
    for plan in (given, written):
        assert option.format("/home/me/x") in plan.argv
        assert not any("~" in word or "$" in word for word in plan.argv)
        if key.endswith(("output_dir", "output_path")):
            assert plan.files["output"] == "/home/me/x"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("$NOT_SET/x", "the environment variable NOT_SET is not set"),
        ("${oc.env:NOT_SET}/x", "the environment variable NOT_SET is not set"),
        ("$EMPTY/x", "the environment variable EMPTY is not set"),
        ("${model.none}/x", "Oumi does not expand ${model.none}"),
        ("${now:%Y}/x", "Oumi does not expand ${now:%Y}"),
        ("~no-such-user/x", "names no home folder"),
        ("$ENDLESS", "without end"),
    ],
)
def test_a_path_that_cannot_be_written_out_is_refused(tmp_path: Path, path: str, says: str) -> None:
    text = f"{MODEL}training: {{output_dir: '{path}'}}\n"
    with pytest.raises(InvalidConfig, match=re.escape(says)) as refused:
        plan_for(tmp_path, text, envs={"EMPTY": "", "ENDLESS": "$ENDLESS"})
    assert "training.output_dir" in refused.value.what


def test_a_reference_to_another_key_of_the_config_is_written_out(tmp_path: Path) -> None:
    text = MODEL + "training: {output_dir: a, logging_dir: '${training.output_dir}/runs'}\n"
    plan = plan_for(tmp_path, text, overrides={"training.output_dir": "~/b"}, envs={"HOME": "/me"})
    assert "--training.logging_dir=/me/b/runs" in plan.argv


@pytest.mark.parametrize("path", ["runs/cost$", "runs/${x}", "a~b", "./~b", "5$", "runs/sft"])
def test_a_plain_path_stays_as_it_is_written(tmp_path: Path, path: str) -> None:
    plan = plan_for(tmp_path, f"{MODEL}training: {{output_dir: '{path}'}}\n")
    assert plan.argv[4:] == []
    assert plan.output_dir == str(tmp_path / path)


def test_a_working_dir_of_a_user_that_is_not_there_is_refused(tmp_path: Path) -> None:
    text = "resources: {cloud: local}\nworking_dir: ~no-such-user/x\nrun: echo\n"
    with pytest.raises(InvalidConfig, match="working_dir"):
        plan_for(tmp_path, text)


def test_quantize_always_says_where_to_write(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, MODEL + "output_path: q\n", command=Command.QUANTIZE)
    assert plan.argv[4:] == ["--output=q"]


def test_a_synth_config_names_its_model_in_its_inference_config(tmp_path: Path) -> None:
    text = "inference_config: {model: {model_name: a/b}}\n"
    assert plan_for(tmp_path, text, command=Command.SYNTH).model_name == "a/b"


def refusal(error: type[OumiFlowsError], folder: Path, text: str, **fields: Any) -> str:
    with pytest.raises(error) as caught:
        plan_for(folder, text, **fields)
    assert "\n" not in str(caught.value)
    assert f"{folder}/config.yaml" in str(caught.value)
    return str(caught.value)


def test_what_cannot_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "guidance://cloud-launch" in refusal(InvalidArgument, tmp_path, MODEL, cloud="gcp")
    message = refusal(InvalidConfig, tmp_path, MODEL, command=Command.INFER)
    assert "would wait for keyboard input" in message
    message = refusal(InvalidConfig, tmp_path, MODEL + 'training: {run_name: "${x}"}\n')
    assert "line 2" in message
    assert "single quotes" in message
    message = refusal(InvalidConfig, tmp_path, MODEL + "training: {max_stepz: 1}\n")
    assert "did you mean training.max_steps?" in message


def test_bad_overrides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"did you mean training\.max_steps"):
        plan_for(tmp_path, MODEL, overrides={"training.max_stepz": 1})


def test_an_override_can_give_what_the_config_lacks(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, "training: {}\n", overrides={"model.model_name": "m"})
    assert plan.model_name == "m"


def test_a_job_config_is_launched_as_it_is_with_its_folder_resolved(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    script = 'echo "${HOME}" $((1 + 1))  \n\tpython -c "print(\'x\')"\n'
    text = yaml.safe_dump(
        {
            "name": "My job",
            "working_dir": "code",
            "num_nodes": 1,
            "envs": {"A": 1, "COLUMNS": "80", "B": True},
            "setup": "pip list",
            "run": script,
        }
    )
    plan = plan_for(tmp_path, text, command=Command.INFER)
    assert yaml.safe_load(plan.job_config) == {
        "name": "my-job",
        "working_dir": f"{tmp_path}/code",
        "num_nodes": 1,
        "envs": {"PYTHONUNBUFFERED": "1", "COLUMNS": "80", "A": "1", "B": "True"},
        "setup": "pip list",
        "run": script,
        "resources": {"cloud": "local"},
    }
    assert (plan.kind, plan.argv, plan.output_dir) == (ConfigKind.JOB, [], None)


@pytest.mark.parametrize(
    ("line", "cloud", "working_dir"),
    [
        ("", "local", "{cwd}"),
        ("working_dir: .", "local", "{cwd}"),
        ("working_dir: sub/", "local", "{cwd}/sub/"),
        ("working_dir: '{cwd}/sub'", "local", "{cwd}/sub"),
        ("working_dir: '~'", "local", "{cwd}"),
        ("working_dir: ???", "local", "{cwd}"),
    ],
)
def test_a_job_configs_working_dir_starts_from_the_clients_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    cloud: str,
    working_dir: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    text = f"run: x\n{line.format(cwd=tmp_path)}\n"
    plan = plan_for(tmp_path, text, cloud=cloud)
    assert plan.working_dir == working_dir.format(cwd=tmp_path)


@pytest.mark.parametrize(
    ("line", "cloud", "working_dir"),
    [
        ("", "gcp", "{cwd}"),
        ("working_dir: .", "gcp", "{cwd}"),
        ("working_dir: sub", "gcp", "{cwd}/sub"),
        # Oumi's own rsync copies what is in a folder whose path ends in a slash, or is a dot.
        ("", "polaris", "{cwd}/"),
        ("working_dir: .", "polaris", "{cwd}/"),
        ("working_dir: sub", "polaris", "{cwd}/sub"),
        ("working_dir: sub/", "polaris", "{cwd}/sub/"),
    ],
)
def test_the_clients_folder_goes_to_the_cloud_unless_another_is_named(
    tmp_path: Path, line: str, cloud: str, working_dir: str
) -> None:
    (tmp_path / "sub").mkdir()
    plan = plan_for(tmp_path, f"run: x\nuser: me\n{line}\n", cloud=cloud)
    assert plan.working_dir == working_dir.format(cwd=tmp_path)


def test_a_whole_home_folder_is_copied_only_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    message = refusal(InvalidConfig, tmp_path, "run: x\n", cloud="gcp")
    assert f"all of {tmp_path} would be copied" in message
    assert plan_for(tmp_path, "run: x\nworking_dir: .\n", cloud="gcp").working_dir
    assert plan_for(tmp_path, "run: x\n").working_dir == str(tmp_path)


def test_the_sources_of_file_mounts_start_from_the_clients_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mounts = "{~/data: data, ~/slash: ./data/, ~/bucket: 's3://bucket/path'}"
    plan = plan_for(tmp_path, f"run: x\nfile_mounts: {mounts}\n", cloud="gcp")
    assert yaml.safe_load(plan.job_config)["file_mounts"] == {
        "~/data": f"{tmp_path}/data",
        "~/slash": f"{tmp_path}/data/",
        "~/bucket": "s3://bucket/path",
    }
    gone = "run: x\nfile_mounts: {~/data: gone}\n"
    assert f"{tmp_path}/gone does not exist" in refusal(InvalidConfig, tmp_path, gone, cloud="gcp")


def test_a_job_runs_as_the_user_of_its_slurm_cluster(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, "run: x\n", cloud="slurm", cluster_name="me@there")
    assert yaml.safe_load(plan.job_config)["user"] == "me"
    assert (plan.cluster_name, plan.is_own_cluster) == ("me@there", False)


def test_a_cloud_that_oumi_does_not_know_is_refused_with_those_it_knows(tmp_path: Path) -> None:
    for text in (MODEL, "run: x\n"):
        with pytest.raises(CloudUnavailable, match=r"has no cloud named 'gpc'.*gcp.*slurm"):
            plan_for(tmp_path, text, cloud="gpc")


def test_the_clouds_of_a_job_config_and_its_request_must_agree(tmp_path: Path) -> None:
    gcp = "run: x\nresources: {cloud: gcp, accelerators: A100}\n"
    message = refusal(Conflict, tmp_path, gcp)
    assert "names cloud 'gcp'" in message
    assert "the call requests cloud 'local'" in message
    assert plan_for(tmp_path, gcp, cloud="gcp").cloud == "gcp"
    assert plan_for(tmp_path, "run: x\nresources: {cpus: 4}\n").cloud == "local"


@pytest.mark.parametrize(
    ("text", "fields", "problem"),
    [
        ("run: x\n", {"overrides": {"training.max_steps": 1}}, "takes no overrides"),
        ("run: x\nworking_dir: gone\n", {}, "working_dir 'gone' is not a folder"),
        ("setup: x\n", {}, "missing key run"),
        ("run: x\nresources: gpu\n", {}, "resources must be a mapping"),
        ("run: x\nrsources: {}\n", {}, "did you mean resources?"),
        ("run: [x]\n", {}, "run must be str"),
        ("run: x\nenvs: {A: null}\n", {}, "envs.A must be str, not null"),
        ("run: x\nenvs: ???\nworking_dir: [a]\n", {}, "working_dir must be str"),
    ],
)
def test_a_bad_job_config_is_refused(
    tmp_path: Path, text: str, fields: dict[str, Any], problem: str
) -> None:
    assert problem in refusal(OumiFlowsError, tmp_path, text, **fields)


@pytest.mark.parametrize("config", ["train.yaml", "eval.yaml", "infer.yaml", "job.yaml"])
def test_the_tiny_example_can_be_planned(config: str) -> None:
    path = Path(__file__).parents[2] / "examples" / "tiny" / config
    command = {"eval.yaml": Command.EVALUATE, "infer.yaml": Command.INFER}.get(config)
    request = JobRequest(
        config_path=str(path), client_cwd=str(path.parent), command=command or Command.TRAIN
    )
    assert make_plan(request, read_config(path)).working_dir == str(path.parent)


def test_planning_imports_nothing_heavy() -> None:
    script = (
        "import sys, flows.core.configs.plan, flows.core.configs.checkpoints\n"
        "heavy = {'oumi', 'torch', 'prefect', 'omegaconf', 'mcp', 'httpx'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


JUDGE = """
judge_params: {prompt_template: "{text}"}
rule_judge_params:
  rule_type: regex
  input_fields: [text]
  rule_config: {pattern: '[0-9]+', match_mode: search}
  response_format: XML
  judgment_type: BOOL
"""


def test_a_judge_takes_its_files_as_options(tmp_path: Path) -> None:
    files = {"input_path": "rows.jsonl", "output_path": "s.jsonl"}
    more = {"judge_params.system_instruction": "Be fair"}
    plan = plan_for(tmp_path, JUDGE, command=Command.JUDGE, overrides=files | more)
    assert plan.argv == [
        *("oumi", "judge", "dataset", "-c", f"{tmp_path}/config.yaml"),
        *("--input=rows.jsonl", "--output=s.jsonl", "--judge_params.system_instruction=Be fair"),
    ]
    assert plan.files["output"] == str(tmp_path / "s.jsonl")
    with pytest.raises(InvalidArgument, match="nothing to judge"):
        plan_for(tmp_path, JUDGE, command=Command.JUDGE)
    text = f"{JUDGE}input_path: rows.jsonl\n"
    with pytest.raises(InvalidConfig, match="no judge config has"):
        plan_for(tmp_path, text, command=Command.JUDGE, overrides=files)
