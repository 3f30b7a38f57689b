"""The files of pipelines and sweeps that the documentation shows are right as they stand."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.pipelines.written import read_pipeline
from flows.core.settings import Settings
from flows.core.sweeps.written import read_sweep
from mcp_server.cli.backend import Backend
from mcp_server.cli.output import Output
from mcp_server.engine import Engine
from mcp_server.services.families.pipelines import NewPipeline
from mcp_server.services.families.sweeps import NewSweep
from tests.support.stack import REPOSITORY

TINY = REPOSITORY / "examples" / "tiny"
ROW = {"messages": [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]}
_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(page: str) -> list[dict[str, Any]]:
    text = (REPOSITORY / "docs" / page).read_text()
    return [yaml.safe_load(block) for block in _YAML.findall(text)]


@pytest.fixture
def here(tmp_path: Path) -> Backend:
    """Plans need no engine."""
    settings = Settings(home=tmp_path / "home")
    return Backend(settings, Engine(settings, environ={}), Output())


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    folder = tmp_path / "tiny"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("data", "runs"))
    # What make_tiny.py makes, as far as a plan looks at it.
    (folder / "data" / "model").mkdir(parents=True)
    for name in ("train", "val", "infer"):
        (folder / "data" / f"{name}.jsonl").write_text(f"{json.dumps(ROW)}\n")
    return str(folder)


def test_the_first_example_of_each_page_is_the_file_it_names() -> None:
    for page, file in (("pipelines.md", "pipeline.yaml"), ("sweeps.md", "sweep.yaml")):
        assert shown(page)[0] == yaml.safe_load((TINY / file).read_text())


@pytest.mark.parametrize("example", shown("pipelines.md"))
def test_a_pipeline_that_is_shown_can_be_read(example: dict[str, Any]) -> None:
    assert read_pipeline(example, name="shown").parts()


@pytest.mark.parametrize("example", shown("sweeps.md"))
def test_a_sweep_that_is_shown_can_be_read(example: dict[str, Any]) -> None:
    assert read_sweep(example, name="shown").count in (2, 12, 20)


def test_the_example_of_a_pipeline_passes_every_check(here: Backend, tiny: str) -> None:
    new = NewPipeline(pipeline_path="pipeline.yaml", client_cwd=tiny)
    plan = here.use(lambda services: services.pipelines.plan(new), needs_engine=False)
    assert [(step.name, step.command, step.after) for step in plan.steps] == [
        ("train", "train", []),
        ("evaluate", "evaluate", ["train"]),
        ("infer", "infer", ["evaluate", "train"]),
    ]
    assert plan.steps[0].output_dir == f"{tiny}/runs/pipeline/train"


def test_the_example_of_a_sweep_passes_every_check(here: Backend, tiny: str) -> None:
    new = NewSweep(sweep_path="sweep.yaml", client_cwd=tiny)
    plan = here.use(lambda services: services.sweeps.plan(new), needs_engine=False)
    assert (plan.trials, len(plan.first_values)) == (12, 10)
    assert plan.first_values[1] == {
        "training.learning_rate": 0.001,
        "training.per_device_train_batch_size": 16,
    }
