"""The catalogue: search, one config, and configs that fit a model and a task."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.configs.library import PREFIX, path_of_alias
from flows.core.configs.reader import read_config
from flows.core.configs.schema import ConfigType
from flows.core.errors import ConfigNotFound
from mcp_server.catalog.entry import Entry, targets_of
from mcp_server.catalog.folder import ConfigFolder
from mcp_server.catalog.library import OumiLibrary
from mcp_server.catalog.model_names import base_of, family_of, size_of
from mcp_server.catalog.search import SearchIndex, only_in_names

STARTER_PREFIX: Final = "starter/"
"""Prefix of the paths of our own recipes."""

RECIPES_DIR: Final = Path(__file__).parents[1] / "recipes"

_LOOK_SECONDS: Final = 2.0
_TASKS_OF: Final = {
    "training": ("sft", "dpo", "kto", "grpo", "distillation", "pretraining"),
    "train": ("sft", "dpo", "kto", "grpo", "distillation", "pretraining"),
    "analyze": ("analysis",),
    "async_evaluation": ("evaluation",),
}


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        entries: The best ones.
        total: Number of all matches.
        unmet: Terms of the query that match no config of the catalogue.
        without: If nothing matches all terms: a term to drop, and the number of matches then.
        misspelt: Words of the query that the best match lacks, with the nearest that it has.
        only_in_names: Words that the best match has only in a name, with the kind of name.
        is_partial: Whether no config matches every term; the entries match most of them.
    """

    entries: list[Entry]
    total: int
    unmet: list[str]
    without: tuple[str, int]
    misspelt: list[tuple[str, str]]
    only_in_names: list[tuple[str, str]]
    is_partial: bool = False


class Config(NamedTuple):
    """One config of the catalogue."""

    entry: Entry
    file: Path
    text: str


class Catalog:
    """Our own recipes and Oumi's library. Blocks on the disk, never on the network.

    Args:
        library: Oumi's library, which fetches itself in the background.
        recipes: The folder of our own recipes.
        now: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        library: OumiLibrary,
        *,
        recipes: Path = RECIPES_DIR,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.library = library
        self._now = now
        self._starter = ConfigFolder(recipes, prefix=STARTER_PREFIX)
        self._oumi: ConfigFolder | None = None
        self._index = SearchIndex([])
        self._looked_at: float | None = None
        self._lock = threading.Lock()

    @property
    def starter(self) -> Sequence[Entry]:
        """Our own recipes."""
        self._look()
        return self._starter.entries

    @property
    def oumi(self) -> Sequence[Entry]:
        """Oumi's configs that are on this machine."""
        self._look()
        return self._of_oumi()

    def search(
        self, query: Iterable[str] = (), *, content_match: Iterable[str] = (), limit: int = 20
    ) -> Found:
        """Find the configs that match every term of the query and contain every text.

        If none matches every term, these are the configs that match most of them.

        Args:
            query: Terms for path, model, task, technique, data set, GPUs and cloud. A term
                without an exact match may be a misspelling.
            content_match: Texts that the file must contain; case does not matter.
            limit: How many to return at most.
        """
        query = list(query)
        index = self._look()
        found = [hit.entry for hit in index.search(query)]
        is_partial = not index.has_all(query)
        unmet = index.unmet(query) if is_partial else []
        without = index.without_one(query) if is_partial and not unmet else ("", 0)
        texts = [text.lower() for text in content_match if text.strip()]
        if texts:
            found = [entry for entry in found if self._folder_of(entry).has_all(entry.path, texts)]
        misspelt = index.misspelt(query, found[0]) if found else []
        in_names = list(only_in_names(query, found[0])) if found else []
        is_partial &= bool(found)
        return Found(found[:limit], len(found), unmet, without, misspelt, in_names, is_partial)

    def get(self, path: str) -> Config:
        """Read a config by its path in the catalogue, or by a unique part of it.

        The part may lack the ending, or name the folder of one config and of the jobs that run it;
        or it is one of Oumi's aliases.

        Raises:
            ConfigNotFound: There is none; the error has close paths.
        """
        self._look()
        entry = self._entry_of(path)
        file = self._folder_of(entry).file_of(entry.path)
        if file is None:
            raise ConfigNotFound(f"The catalogue has no config {path!r} any more", "Search again")
        return Config(entry, file, read_config(file).text)

    def _entry_of(self, path: str) -> Entry:
        entries = {entry.path: entry for entry in (*self.starter, *self.oumi)}
        wanted = path.strip().removeprefix("oumi://").removeprefix("./").removeprefix("configs/")
        if wanted in entries:
            return entries[wanted]
        ends = _paths_of(wanted, entries)
        if len(ends) != 1:
            raise ConfigNotFound(
                f"The catalogue has no config {path!r}", _hint(ends, wanted, entries)
            )
        return entries[ends[0]]

    def suggest(self, *, model_name: str = "", task: str = "", limit: int = 5) -> list[str]:
        """Suggest paths of configs for this model's family and this task, closest first.

        Args:
            model_name: A model as configs name it; empty: any.
            task: A task (`Entry.task`) or a type of config; empty: any.
            limit: How many to return at most.
        """
        self._look()
        tasks = _TASKS_OF.get(task, (task,))
        family, size = family_of(model_name), size_of(model_name)
        ranked: list[tuple[int, int, str]] = []
        for place, entry in enumerate((*self.starter, *self.oumi)):
            if task and entry.task not in tasks and entry.config_type != task:
                continue
            closeness = _closeness(entry, model_name, family, size)
            if closeness or not model_name:
                # A job config has less about a model than the config it runs.
                ranked.append((-2 * closeness + (entry.config_type == "job"), place, entry.path))
        return [path for _, _, path in sorted(ranked)[:limit]]

    def related_paths(self, entry: Entry) -> list[str]:
        """Find the configs that a job config runs, or the job configs that run a config."""
        if entry.config_type == "job":
            return [path for path in targets_of(entry) if self._folder_of(entry).file_of(path)]
        jobs = (other for other in (*self.starter, *self.oumi) if other.runs)
        return [job.path for job in jobs if entry.path in targets_of(job)]

    def _look(self) -> SearchIndex:
        """Return the index; update it at most every two seconds."""
        with self._lock:
            now = self._now()
            folder = self.library.folder()
            moved = folder != (self._oumi.root if self._oumi else None)
            if moved:
                self._oumi = ConfigFolder(folder) if folder else None
            elif self._looked_at is not None and now - self._looked_at < _LOOK_SECONDS:
                return self._index
            changed = self._starter.look()
            if self._oumi:
                changed |= self._oumi.look()
            if changed or moved:
                self._index = SearchIndex([*self._starter.entries, *self._of_oumi()])
            self._looked_at = now
            return self._index

    def _of_oumi(self) -> list[Entry]:
        entries = self._oumi.entries if self._oumi else []
        return [entry for entry in entries if not entry.path.startswith(STARTER_PREFIX)]

    def _folder_of(self, entry: Entry) -> ConfigFolder:
        if self._oumi is None or entry.path.startswith(STARTER_PREFIX):
            return self._starter
        return self._oumi


def _closeness(entry: Entry, model_name: str, family: str, size: str) -> int:
    if not entry.model_name or base_of(entry.model_family) != base_of(family):
        return 0
    if entry.model_name.lower() == model_name.lower():
        return 4
    if entry.model_family == family:
        return 3 if size and size_of(entry.model_name) == size else 2
    return 1


def _paths_of(wanted: str, entries: Mapping[str, Entry]) -> list[str]:
    """The paths that a part of one may mean; job configs only if there is no other."""
    alias = path_of_alias(wanted, None).removeprefix(f"{PREFIX}configs/")
    if alias in entries:
        return [alias]
    name = wanted.strip("/")
    ends = [path for path in entries if name and f"/{path}".endswith((f"/{name}", f"/{name}.yaml"))]
    ends = ends or [path for path in entries if name and f"/{name}/" in f"/{path}"]
    return [path for path in ends if entries[path].config_type != ConfigType.JOB] or ends


def _hint(ends: list[str], wanted: str, paths: Iterable[str]) -> str:
    close = ends[:3] or get_close_matches(wanted, list(paths), n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return "Find its path with search_configs"
