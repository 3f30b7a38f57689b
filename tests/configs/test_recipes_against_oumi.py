"""Every recipe of ours is what the installed Oumi takes. Imports Oumi once."""

import re
from pathlib import Path
from typing import Any

import pytest
from oumi.analyze.config import TypedAnalyzeConfig
from oumi.builders.rewards import build_reward_functions
from oumi.core import configs
from oumi.core.registry import REGISTRY

from flows.core.configs.schema import ConfigType
from mcp_server.catalog.catalog import RECIPES_DIR
from mcp_server.catalog.entry import read_entry

CLASSES: dict[ConfigType, Any] = {
    ConfigType.TRAINING: configs.TrainingConfig,
    ConfigType.EVALUATION: configs.EvaluationConfig,
    ConfigType.INFERENCE: configs.InferenceConfig,
    ConfigType.TUNING: configs.TuningConfig,
    ConfigType.SYNTHESIS: configs.SynthesisConfig,
    ConfigType.QUANTIZATION: configs.QuantizationConfig,
    ConfigType.ANALYZE: TypedAnalyzeConfig,
    ConfigType.JOB: configs.JobConfig,
    ConfigType.JUDGE: configs.JudgeConfig,
    ConfigType.ASYNC_EVALUATION: configs.AsyncEvaluationConfig,
}
OWN_DATA = re.compile(r"^\s*dataset_path: (data/\S+)$", re.MULTILINE)
RECIPES = sorted(RECIPES_DIR.rglob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(RECIPES_DIR)))
def test_oumi_reads_and_validates_every_recipe(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in OWN_DATA.findall(recipe.read_text()):  # Oumi looks whether it is there
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    entry = read_entry(recipe.name, recipe.read_text())
    config = CLASSES[ConfigType(entry.config_type)].from_yaml(recipe)
    if isinstance(config, configs.BaseConfig):
        config.finalize_and_validate()


def test_every_data_set_a_recipe_trains_on_and_every_reward_is_one_oumi_knows() -> None:
    unknown: list[str] = []
    for recipe in RECIPES:
        entry = read_entry(recipe.name, recipe.read_text())
        if entry.config_type != ConfigType.TRAINING:
            continue
        names = [name for name in entry.datasets if REGISTRY.get_dataset(name) is None]
        unknown += [f"{recipe.name}: {name}" for name in names]
        training = configs.TrainingConfig.from_yaml(recipe).training
        # Raises for one that it does not know.
        rewards = build_reward_functions(training)
        assert len(rewards) == len(training.reward_functions or [])
    assert unknown == []
