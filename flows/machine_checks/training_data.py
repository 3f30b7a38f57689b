"""A short look at the first rows of training data, just before a launch."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.checks.values import items_of, mapping_of
from flows.core.configs.schema import ConfigType
from flows.core.errors import InvalidConfig
from flows.core.findings import FindingCode
from flows.core.training_data.judging import judge
from flows.core.training_data.preview import DataPreview, DataQuestion
from flows.core.training_data.sample import BadRow
from flows.launcher.job_environment import DEPS_ENV
from flows.launcher.oumi.data_previews import DataPreviews, needs_process, use_cached_models

_SECONDS: Final = 2.0
_READING_PART: Final = 0.6
"""The part of this time after which no more rows are read."""
_ROWS: Final = 300
_BYTES: Final = 1_000_000
_REMEMBERED: Final = 32
"""Answers that are kept: the trials of a sweep have the same data."""

_Key = tuple[str, tuple[tuple[str, int, int], ...]]


class TrainingDataCheck:
    """Looks at the data of trainings on this machine, for a short time.

    Args:
        previews: Builds the rows; None: on this machine.
        within_seconds: How long a launch may be delayed.
    """

    def __init__(
        self, previews: DataPreviews | None = None, *, within_seconds: float = _SECONDS
    ) -> None:
        self._previews = previews or DataPreviews(os.environ)
        self._within_seconds = within_seconds
        self._known: dict[_Key, DataPreview] = {}

    async def check(self, launch: Launch) -> str:
        """Note what is wrong with the first rows of each training.

        Returns:
            Which rows were looked at, or why none.
        """
        trainings = [one for one in launch.recipes if one.config_type is ConfigType.TRAINING]
        if not trainings or not any(True for recipe in trainings for _ in recipe.datasets()):
            return ""
        if not launch.target.is_local:
            return f"Not looked at: the job runs on {launch.target.cloud}."
        return " ".join([await self._check(launch, recipe) for recipe in trainings])

    async def _check(self, launch: Launch, recipe: Recipe) -> str:
        question = _question(launch, recipe, self._within_seconds)
        try:
            async with asyncio.timeout(self._within_seconds):
                preview = await self._look(recipe, question)
        except TimeoutError:
            return f"Not looked at: it takes longer than {self._within_seconds:g} s."
        except _NotNow as error:
            return f"Not looked at: {error}."
        except BadRow as error:
            note, code = recipe.notes.error, FindingCode.BAD_DATA_FILE
            if not any(finding.code is code for finding in recipe.notes.findings):
                note(code, error.what, error.next_step, key="data")
            return ""
        except InvalidConfig as error:
            # The checks of paths, repositories and Oumi's classes report it, with its key.
            return f"Not looked at: {error.what}."
        for found in judge(preview.facts):
            recipe.notes.add(found.severity, found.code, found.message, found.fix, key="data.train")
        return " ".join(preview.notes) or f"All rows were read: {preview.facts.rows_checked:,}."

    async def _look(self, recipe: Recipe, question: DataQuestion) -> DataPreview:
        if recipe.envs.get(DEPS_ENV):
            raise _NotNow("the job brings classes of its own; preview_data shows the rows")
        question = await asyncio.to_thread(use_cached_models, question)
        key = await asyncio.to_thread(_key, question)
        known = self._known.get(key)
        if known is not None:
            return known
        reason = await asyncio.to_thread(needs_process, question)
        if reason:
            raise _NotNow(f"{reason}; preview_data shows the rows")
        found = await self._previews.at_once(question, within_seconds=self._within_seconds)
        if found is None:
            raise TimeoutError
        if len(self._known) >= _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[key] = found
        return found


class _NotNow(Exception):
    """The rows cannot be looked at in a launch."""


def _question(launch: Launch, recipe: Recipe, within_seconds: float) -> DataQuestion:
    return DataQuestion(
        content=dict(recipe.data),
        folder=str(recipe.base or launch.client_cwd),
        rows=0,
        most_rows=_ROWS,
        most_bytes=_BYTES,
        seconds=_READING_PART * within_seconds,
    )


def _key(question: DataQuestion) -> _Key:
    """Identify the answer to a question: the parts of the config that it reads, and its files."""
    content = question.content
    training = mapping_of(content.get("training"))
    kwargs = [training.get(name) for name in ("trainer_type", "trainer_kwargs")]
    text = json.dumps(
        [question.folder, content.get("model"), content.get("data"), kwargs], default=str
    )
    return text, tuple(_states(question))


def _states(question: DataQuestion) -> Iterator[tuple[str, int, int]]:
    for path in sorted(_paths(question.content, Path(question.folder))):
        try:
            state = path.stat()
        except (OSError, ValueError):
            continue
        yield str(path), state.st_mtime_ns, state.st_size


def _paths(value: object, folder: Path) -> set[Path]:
    found: set[Path] = set()
    for item in items_of(value):
        found |= _paths(item, folder)
    for name, item in mapping_of(value).items():
        if isinstance(item, str) and name in ("dataset_path", "model_name", "tokenizer_name"):
            found |= {folder / item, folder / item / "tokenizer_config.json"}
        else:
            found |= _paths(item, folder)
    return found
