"""Models, data sets and functions that a launch names: in Oumi's registry, on disk, on the hub."""

import asyncio
from difflib import get_close_matches
from typing import Final, NamedTuple

from flows.core.checks.launch import Launch
from flows.core.checks.needs import is_repo, repos, unclear_names
from flows.core.checks.paths import is_path
from flows.core.checks.recipe import Dataset, Recipe
from flows.core.checks.values import items_of, mapping_of, text_of
from flows.core.file_names import exists
from flows.core.findings import FindingCode, Severity
from flows.launcher.oumi.registry import OumiRegistry, Registered
from flows.machine_checks.hub import Access, Hub, Question

_LOGINS: Final = ("huggingface/token", "hf auth login", "huggingface-cli login", "HF_TOKEN")
_HUB_ENVS: Final = frozenset({"HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE"})
"""Variables with which a job config sets a different hub or cache for the job."""

_DEPS: Final = "OUMI_EXTRA_DEPS_FILE"


class _Asked(NamedTuple):
    question: Question
    recipe: Recipe
    key: str


class RepositoryChecks:
    """Checks of everything that a launch names and does not contain.

    Args:
        launch: The launch.
        hub: The hub with its repositories.
        registry: The names that Oumi knows.
    """

    def __init__(self, launch: Launch, hub: Hub, registry: OumiRegistry) -> None:
        self.access: dict[str, str] = {}
        self.datasets: dict[str, str] = {}
        self._launch = launch
        self._hub = hub
        self._registry = registry
        self._asked: list[_Asked] = []

    async def check(self, *, within_seconds: float | None = None) -> bool | None:
        """Note what cannot be read; return whether the hub accepted our token, None if unknown.

        Args:
            within_seconds: How long the hub may take; None: its own limit.
        """
        await asyncio.to_thread(self._look_up)
        report = await self._hub.look(
            [asked.question for asked in self._asked],
            with_token=self._has_login,
            within_seconds=within_seconds,
        )
        for asked in self._asked:
            found = report.access[asked.question]
            kind = asked.question.kind
            (self.datasets if kind == "dataset" else self.access)[asked.question.name] = found.value
            self._note(asked, found)
        if report.authenticated is False and self._has_login and self._hub.token:
            self._launch.notes.warning(
                FindingCode.CREDENTIAL_MISSING,
                "the hub does not accept the worker's Hugging Face token",
                "Log in again with `hf auth login`, or correct HF_TOKEN",
            )
        return report.authenticated

    @property
    def _has_login(self) -> bool:
        """Whether the job will have a token of the hub."""
        job = self._launch.job
        if self._launch.target.is_local or job is None:
            return True
        texts = [*job.file_mounts, *job.envs, job.setup.text, job.run.text]
        return any(word in text for word in _LOGINS for text in texts)

    def _look_up(self) -> None:
        """Look up the names that Oumi may know; the hub is asked for the rest."""
        for recipe in self._launch.recipes:
            for repo in repos(recipe):
                if "/" in repo.name or repo.name.lower() not in self._registry.names(
                    Registered.MODEL
                ):
                    question = Question(repo.name, repo.kind, repo.revision)
                    self._asked.append(_Asked(question, recipe, repo.key))
            if recipe.loads_model:
                for key, name in unclear_names(recipe):
                    self._note_no_name(recipe, key, name, "model")
            for dataset in recipe.datasets():
                if dataset.name:
                    self._check_dataset(recipe, dataset)
            self._check_functions(recipe)

    def _check_dataset(self, recipe: Recipe, dataset: Dataset) -> None:
        """The order in which Oumi 0.9 looks: its registry, the disk, the hub."""
        key = f"{dataset.key}.dataset_name"
        if self._registry.has_dataset(dataset.name, subset=None):
            if dataset.path or "/" not in dataset.name:
                self.datasets[dataset.name] = "registered"
                return
        elif recipe.base is not None and exists(recipe.base / dataset.name):
            self.datasets[dataset.name] = "local"
            return
        elif "/" not in dataset.name:
            nearest = _nearest(dataset.name, self._registry.names(Registered.DATASET))
            if nearest or self._may_register(recipe):
                self.datasets[dataset.name] = "not_registered"
                hint = f"; did you mean {nearest}?" if nearest else ""
                recipe.notes.add(
                    self._severity(recipe),
                    FindingCode.DATASET_NOT_FOUND,
                    f"Oumi has no data set {dataset.name}{hint}",
                    "" if nearest else "Make sure that the job registers it",
                    key=key,
                    nearest=nearest,
                )
                return
        if not is_repo(recipe, dataset.name):
            self._note_no_name(recipe, key, dataset.name, "data set")
        else:
            self._asked.append(_Asked(Question(dataset.name, "dataset"), recipe, key))

    def _note_no_name(self, recipe: Recipe, key: str, name: str, what: str) -> None:
        """Note a name that is neither registered, nor a file here, nor one of the hub."""
        if "$" in name or (recipe.base is None and is_path(name)):
            return
        if is_path(name) and recipe.base is not None and exists(recipe.base / name):
            return
        recipe.notes.add(
            self._severity(recipe),
            FindingCode.DATASET_NOT_FOUND if what == "data set" else FindingCode.REPO_NOT_FOUND,
            f"{key} is {name!r}, which is neither a {what} of the hub nor a file here",
            "Write owner/name; a data file goes into dataset_path"
            if what == "data set"
            else "Write owner/name, or the path of a folder",
            key=key,
        )

    def _check_functions(self, recipe: Recipe) -> None:
        for index, name in enumerate(items_of(recipe.get("training.reward_functions"))):
            key = f"training.reward_functions[{index}]"
            self._check_name(recipe, key, name, Registered.REWARD_FUNCTION)
        key = "training.metrics_function"
        self._check_name(recipe, key, recipe.get(key), Registered.METRICS_FUNCTION)
        for index, item in enumerate(items_of(recipe.get("tasks"))):
            task = mapping_of(item)
            if task.get("evaluation_backend") == "custom":
                key = f"tasks[{index}].task_name"
                name = text_of(task.get("task_name"))
                self._check_name(recipe, key, name, Registered.EVALUATION_FUNCTION)

    def _check_name(self, recipe: Recipe, key: str, name: object, kind: Registered) -> None:
        if not isinstance(name, str) or not name:
            return
        names = self._registry.names(kind)
        if name.lower() in names:
            return
        nearest = _nearest(name, names)
        hint = f"; did you mean {nearest}?" if nearest else ""
        recipe.notes.add(
            self._severity(recipe),
            FindingCode.NOT_REGISTERED,
            f"{key} is {name}, which Oumi's registry does not know{hint}",
            "" if nearest else f"Register it in a module that {_DEPS} names",
            key=key,
            nearest=nearest,
        )

    def _of_hub(self, recipe: Recipe) -> Severity:
        """The severity of a finding that depends on the worker's own cache and settings."""
        is_same = self._launch.target.is_local and _HUB_ENVS.isdisjoint(recipe.envs)
        return Severity.ERROR if is_same else Severity.WARNING

    def _severity(self, recipe: Recipe) -> Severity:
        return Severity.WARNING if self._may_register(recipe) else Severity.ERROR

    def _may_register(self, recipe: Recipe) -> bool:
        """Whether the job may register names that this process does not know."""
        if _DEPS in recipe.envs:
            return True
        return self._launch.target.is_local and bool(self._hub.environ.get(_DEPS))

    def _note(self, asked: _Asked, found: Access) -> None:
        notes, name, key = asked.recipe.notes, asked.question.name, asked.key
        kind = "data set" if asked.question.kind == "dataset" else "repository"
        match found:
            case Access.VALID | Access.CACHED:
                return
            case Access.GATED | Access.FORBIDDEN:
                notes.error(
                    FindingCode.REPO_GATED,
                    f"the hub does not let the job read {name}"
                    + ("" if self._has_login else ", because it has no token"),
                    f"Ask for access on its page, {self._hub.page(asked.question)}, and give the "
                    "job a token (HF_TOKEN)",
                    key=key,
                )
            case Access.NOT_FOUND:
                code = FindingCode.REPO_NOT_FOUND
                if asked.question.kind == "dataset":
                    code = FindingCode.DATASET_NOT_FOUND
                notes.add(
                    self._severity(asked.recipe) if kind == "data set" else Severity.ERROR,
                    code,
                    f"the hub has no {kind} {name}, or it is private",
                    "Correct the name, or log in with a token that may read it",
                    key=key,
                )
            case Access.NO_REVISION:
                notes.error(
                    FindingCode.REPO_NOT_FOUND,
                    f"{name} has no revision {asked.question.revision}",
                    "Correct model_revision",
                    key=key.rpartition(".")[0] + ".model_revision",
                )
            case Access.OFFLINE:
                notes.add(
                    self._of_hub(asked.recipe),
                    FindingCode.HUB_OFFLINE,
                    f"{name} is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub",
                    "Unset HF_HUB_OFFLINE, or give a local path",
                    key=key,
                )
            case Access.UNREACHABLE:
                notes.warning(
                    FindingCode.REPO_UNREACHABLE,
                    f"it is unknown whether {name} can be read: the hub did not answer",
                    "Check the network, and try again",
                    key=key,
                )


def _nearest(name: str, names: set[str]) -> str:
    plain = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(name.lower(), plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else ""
