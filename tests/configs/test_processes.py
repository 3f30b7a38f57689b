"""The GPUs and processes of a plan."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.errors import InvalidArgument, InvalidConfig
from tests.configs.test_plan import ENVS, MODEL, plan_for

TRAIN = (
    MODEL + "training: {per_device_train_batch_size: 4, gradient_accumulation_steps: 2, "
    "trainer_type: TRL_SFT}\n"
)


def test_a_training_on_several_gpus_has_a_process_on_each(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, f"# Needs: 8x A100-80GB\n{TRAIN}", gpus=4)
    assert plan.argv == [
        *("oumi", "distributed", "torchrun", "--standalone", "--nnodes=1"),
        *("--nproc-per-node=4", "-m", "oumi", "train", "-c", f"{tmp_path}/config.yaml"),
    ]
    assert yaml.safe_load(plan.job_config)["envs"] == {**ENVS, "OUMI_FLOWS_GPUS": "4"}
    assert (plan.gpus, plan.processes, plan.effective_batch_size) == (4, 4, 32)
    assert plan.written_for_gpus == 8


def test_all_gpus_are_counted_where_the_job_runs(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, TRAIN, gpus="all")
    assert "--nproc-per-node=gpu" in plan.argv
    assert (plan.gpus, plan.processes, plan.effective_batch_size) == ("all", None, None)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (TRAIN, {"gpus": 1}),
        (TRAIN.replace("TRL_SFT", "VERL_GRPO"), {"gpus": 4}),
        (f"{MODEL}input_path: a.jsonl\n", {"gpus": 2, "command": "infer"}),
    ],
)
def test_a_command_that_spreads_itself_is_one_process(
    tmp_path: Path, text: str, fields: dict[str, Any]
) -> None:
    plan = plan_for(tmp_path, text, **fields)
    assert plan.argv[0:2] == ["oumi", fields.get("command", "train")]
    assert (plan.processes, plan.gpus) == (1, fields["gpus"])


def test_a_config_is_written_for_the_gpus_of_the_job_config_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "8b_full"
    folder.mkdir()
    (folder / "gcp_job.yaml").write_text(
        "resources: {cloud: gcp, accelerators: 'A100:4'}\nnum_nodes: 2\n"
        "run: oumi train -c configs/8b_full/config.yaml\n"
    )
    assert plan_for(folder, TRAIN).written_for_gpus == 8


def test_gpus_that_a_job_cannot_have_are_refused(tmp_path: Path) -> None:
    job = "resources: {cloud: local}\nrun: nvidia-smi\nenvs: {CUDA_VISIBLE_DEVICES: '3'}\n"
    with pytest.raises(InvalidConfig, match="sets CUDA_VISIBLE_DEVICES"):
        plan_for(tmp_path, job, gpus=2)
    envs = {"CUDA_VISIBLE_DEVICES": "3"}
    with pytest.raises(InvalidArgument, match="Leave one of them out"):
        plan_for(tmp_path, TRAIN, gpus=2, envs=envs)
    job = "resources: {cloud: gcp}\nrun: nvidia-smi\n"
    with pytest.raises(InvalidArgument, match=r"set resources\.accelerators"):
        plan_for(tmp_path, job, gpus=2, cloud="gcp")
