"""Our own recipes: what they cover, and that they say what a reader needs."""

import re
from pathlib import Path

import pytest

from flows.core.configs.checks import config_problems
from flows.core.configs.plan import make_plan
from flows.core.configs.reader import read_config
from flows.core.configs.schema import CONFIG_TYPE, ConfigType
from flows.core.models import Command, JobRequest
from flows.core.names import LOCAL_CLOUD
from mcp_server.catalog.catalog import RECIPES_DIR, STARTER_PREFIX
from mcp_server.catalog.entry import Entry, read_entry

RECIPES = sorted(RECIPES_DIR.rglob("*.yaml"))
LONGEST_LINE = 100
JOBLESS = {ConfigType.JUDGE, ConfigType.ASYNC_EVALUATION}
"""What no job command runs."""


def entry_of(recipe: Path) -> Entry:
    return read_entry(f"{STARTER_PREFIX}{recipe.relative_to(RECIPES_DIR)}", recipe.read_text())


ENTRIES = [entry_of(recipe) for recipe in RECIPES]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(RECIPES_DIR)))
def test_a_recipe_is_clean_and_says_what_it_is_what_it_needs_and_how_it_runs(recipe: Path) -> None:
    entry, text = entry_of(recipe), recipe.read_text()
    assert entry.config_type, "its keys do not show its type"
    assert config_problems(read_config(recipe).data, ConfigType(entry.config_type)) == []
    assert entry.task
    assert entry.description.endswith(".")
    assert entry.gpu
    assert max(map(len, text.splitlines())) <= LONGEST_LINE
    command = re.search(r"^#   oumi (\w+) -c (\S+)$", text, re.MULTILINE)
    assert (command is None) == (entry.config_type in {ConfigType.JOB, *JOBLESS})
    if command:
        assert command[2] == recipe.name


@pytest.mark.parametrize(
    "recipe",
    [recipe for recipe in RECIPES if entry_of(recipe).config_type not in JOBLESS],
    ids=lambda path: str(path.relative_to(RECIPES_DIR)),
)
def test_a_job_can_be_planned_from_every_recipe_as_it_is(recipe: Path, tmp_path: Path) -> None:
    entry = entry_of(recipe)
    command = {kind: command for command, kind in CONFIG_TYPE.items()}.get(
        ConfigType(entry.config_type), Command.TRAIN
    )
    request = JobRequest(
        config_path=str(recipe),
        client_cwd=str(tmp_path),
        command=command,
        cloud=entry.cloud or LOCAL_CLOUD,
        cluster_name="me@login" if entry.cloud == "slurm" else "",
    )
    plan = make_plan(request, read_config(recipe))
    assert plan.model_name == entry.model_name
    if entry.cloud == "local" or not entry.cloud:
        assert str(tmp_path) in plan.job_config


def test_the_recipes_cover_tasks_techniques_families_and_clouds() -> None:
    assert len(ENTRIES) >= 40
    tasks = "sft dpo kto grpo distillation pretraining evaluation inference quantization tuning"
    assert {e.task for e in ENTRIES} >= {*tasks.split(), "synthesis", "analysis", "judge"}
    assert {e.technique for e in ENTRIES} >= {"full", "lora", "qlora"}
    families = "llama3.1 llama3.2 llama3.3 qwen2.5 qwen3 gemma3 phi4 smollm2 mistral olmo2"
    assert {e.model_family for e in ENTRIES} >= {*families.split(), "deepseek-r1"}
    clouds = "local slurm gcp aws azure k8s lambda runpod nebius"
    assert {e.cloud for e in ENTRIES} >= set(clouds.split())
    assert {e.config_type for e in ENTRIES} == set(ConfigType)


def test_no_two_recipes_write_to_the_same_place() -> None:
    places = re.compile(r"^\s*(?:output_dir|output_path): (\S+)$", re.MULTILINE)
    found = [place for recipe in RECIPES for place in set(places.findall(recipe.read_text()))]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("task", "data_set"), [("sft", "text_sft_jsonl"), ("dpo", "text_dpo_jsonl")]
)
def test_a_recipe_is_on_data_of_ones_own(task: str, data_set: str) -> None:
    assert [e.task for e in ENTRIES if e.datasets == (data_set,)] == [task]
    offered = {e.task for e in ENTRIES if data_set in e.own_data}
    assert offered == {task}, "what others offer in a comment is for their task"
