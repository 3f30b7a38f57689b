"""The checks of the worker's machine, side by side."""

from pathlib import Path

import pytest

from flows.core.checks.launch import Launch, read_launch
from flows.core.configs.reader import read_config
from flows.core.findings import CloudReadiness, WorkerFindings, errors_of
from flows.launcher.oumi.registry import OumiRegistry
from flows.launcher.sky.readiness import SkyReadiness
from flows.machine_checks.checks import WorkerChecks
from flows.machine_checks.hub import Hub
from tests.checks.corpus_world import FakeClouds, FakeMachine

JOB = """\
name: j
resources: {cloud: gcp, accelerators: "A100:1"}
run: oumi train -c train.yaml
"""
TRAIN = """\
model: {model_name: org/model}
data: {train: {datasets: [{dataset_name: org/data}]}}
training: {trainer_type: TRL_SFT, enable_wandb: true, output_dir: /mnt/out}
"""


class BrokenClouds(SkyReadiness):
    def readiness(self, cloud: str) -> CloudReadiness:
        raise KeyError(cloud)


class BrokenRegistry(OumiRegistry):
    def has_dataset(self, name: str, subset: str | None) -> bool:
        raise RuntimeError(name)


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    (tmp_path / "train.yaml").write_text(TRAIN)
    (tmp_path / "job.yaml").write_text(JOB)
    return read_launch(read_config(tmp_path / "job.yaml"), client_cwd=str(tmp_path), cloud="")


async def found(launch: Launch, home: Path, **parts: object) -> WorkerFindings:
    """What is found where the hub is off, the machine is in order, and the parts are as given."""
    environ = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    given = {
        "machine": FakeMachine({}),
        "hub": Hub(environ, timeout_seconds=1),
        "registry": OumiRegistry(),
        "clouds": FakeClouds({}),
        **parts,
    }
    return await WorkerChecks(environ=environ, **given).all(launch)  # pyright: ignore[reportArgumentType]


async def test_a_check_that_breaks_costs_nothing_of_what_the_others_find(
    launch: Launch, tmp_path: Path
) -> None:
    whole = await found(launch, tmp_path)
    assert whole.findings
    broken = await found(launch, tmp_path, clouds=BrokenClouds())
    added = [item for item in broken.findings if item not in whole.findings]
    assert all(item in broken.findings for item in whole.findings)
    assert [(item.severity, item.code) for item in added] == [("warning", "worker_not_asked")]
    assert "the cloud" in added[0].text
    assert "KeyError" in added[0].text

    without = await found(launch, tmp_path, clouds=BrokenClouds(), registry=BrokenRegistry())
    assert len([item for item in without.findings if item.code == "worker_not_asked"]) == 2
    assert without.hardware == whole.hardware


def checks_with(home: Path, **options: str) -> WorkerChecks:
    environ = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return WorkerChecks(
        machine=FakeMachine({}),
        hub=Hub(environ, timeout_seconds=1),
        registry=OumiRegistry(),
        clouds=FakeClouds(options),
        environ=environ,
    )


async def test_before_a_launch_on_a_cloud_oumi_and_skypilot_are_asked(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "train.yaml").write_text(TRAIN.replace("model}", "model, torch_dtype_str: b32}"))
    wrong = read_launch(read_config(tmp_path / "job.yaml"), client_cwd=str(tmp_path), cloud="")
    errors = errors_of(await checks_with(tmp_path, ready="no").before_launch(wrong))
    assert [(error.code, error.key) for error in errors] == [
        ("cloud_not_ready", "resources.cloud"),
        ("refused_by_oumi", "model.torch_dtype_str"),
    ]
    unknown = await checks_with(tmp_path, ready="unknown").before_launch(launch)
    assert "cloud_not_ready" in {finding.code for finding in unknown}
    assert errors_of(unknown) == []


async def test_before_a_launch_here_oumi_is_asked_and_skypilot_is_not(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(TRAIN.replace("model}", "model, torch_dtype_str: b32}"))
    (tmp_path / "job.yaml").write_text(JOB.replace("gcp", "local"))
    here = read_launch(read_config(tmp_path / "job.yaml"), client_cwd=str(tmp_path), cloud="")
    findings = await checks_with(tmp_path, ready="no").before_launch(here)
    refused = [finding.key for finding in findings if finding.code == "refused_by_oumi"]
    assert refused == ["model.torch_dtype_str"]
    assert "cloud_not_ready" not in {finding.code for finding in findings}
