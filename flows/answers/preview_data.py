"""The `preview-data` flow: the rows that a training will learn from."""

import asyncio
import os
from pathlib import Path

from prefect import flow

from flows.answers.answering import answering
from flows.core.checks.launch import Launch, read_launch
from flows.core.checks.recipe import Recipe
from flows.core.configs.reader import read_config
from flows.core.configs.schema import ConfigType
from flows.core.errors import InvalidArgument
from flows.core.names import PREVIEW_FLOW
from flows.core.training_data.preview import DataPreview, DataQuestion, Split
from flows.launcher.oumi.data_previews import DataPreviews


@flow(
    name=PREVIEW_FLOW,
    persist_result=False,
    description="Show rows as a trainer will get them, with what the loss covers.",
)
@answering
async def preview_data(
    config_path: str, client_cwd: str, split: Split = "train", rows: int = 3
) -> DataPreview:
    """Build the first rows of a training's data on this machine; nothing is trained.

    Args:
        config_path: Absolute path of a training config, or of a job config that trains.
        client_cwd: Absolute folder that relative paths start from.
        split: Which data: train, validation or test.
        rows: How many rows to show.
    """
    launch = await asyncio.to_thread(_read, config_path, client_cwd)
    recipe = _training_of(launch, config_path)
    folder = str(recipe.base or launch.client_cwd)
    question = DataQuestion(content=dict(recipe.data), folder=folder, split=split, rows=rows)
    preview = await DataPreviews(os.environ).preview(question, envs=_envs(launch, recipe))
    return preview if launch.target.is_local else _of_cloud(preview, launch.target.cloud)


def _read(config_path: str, client_cwd: str) -> Launch:
    return read_launch(read_config(Path(config_path)), client_cwd=client_cwd)


def _training_of(launch: Launch, config_path: str) -> Recipe:
    recipe = next((one for one in launch.recipes if one.config_type is ConfigType.TRAINING), None)
    if recipe is None:
        raise InvalidArgument(
            f"{Path(config_path).name} trains nothing",
            "Name a training config, or a job that trains",
        )
    return recipe


def _envs(launch: Launch, recipe: Recipe) -> dict[str, str]:
    return dict(recipe.envs) if launch.target.is_local else {}


def _of_cloud(preview: DataPreview, cloud: str) -> DataPreview:
    note = f"The job runs on {cloud}; these are the files of the worker's machine."
    return preview.model_copy(update={"notes": [*preview.notes, note]})
