"""The use cases of the catalogue of configs; the tools and the terminal both call this."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from pydantic import Field

from flows.core.configs.schema import ConfigType
from flows.core.models import Value
from mcp_server.catalog.catalog import STARTER_PREFIX, Catalog, Config, Found
from mcp_server.catalog.entry import Entry
from mcp_server.catalog.library import LibraryState, LibraryStatus, OumiLibrary

FETCH_AFTER_SECONDS: Final = 3.0
"""Long enough not to slow the start of the server."""

_ROWS_BYTES: Final = 10_000
_ROW_BYTES: Final = 500
_MAX_CONTENT_BYTES: Final = 9_000
_FAMILIES: Final = frozenset({"pipeline", "pipelines", "sweep", "sweeps"})
"""Words for what is no config of Oumi's, so that no search finds it."""
_MAX_NAMES: Final = 60
_MAX_DATASETS: Final = 3
_MAX_RELATED: Final = 8


class ConfigRow(Value):
    """A config in a list; a field that its file does not give is empty."""

    path: str = Field(description="Give it to get_config.")
    description: str
    config_type: str = Field(description="task_type of validate_config.")
    task: str
    technique: str = Field(description="full, lora or qlora; else engine, backend or method.")
    model_name: str
    datasets: list[str]
    gpu: str
    cloud: str = Field(description="Of a job config.")


class ConfigSearch(Value):
    """The configs found, best first."""

    summary: str = Field(description="One line a person can read; says what was cut.")
    total: int = Field(description="Total number.")
    configs: list[ConfigRow]


class ConfigDetail(Value):
    """One config."""

    summary: str = Field(description="One line a person can read.")
    path: str
    file_path: str = Field(description="Where it is on the server's disk; do not change it there.")
    content: str = Field(description="The YAML.")
    config_type: str
    task: str
    technique: str
    model_name: str
    datasets: list[str]
    gpu: str
    related: list[str] = Field(description="Configs that it runs, or that run it.")
    next_step: str = Field(description="Steps to adapt and run it.")


class Categories(Value):
    """Families, tasks, techniques and clouds of the catalogue, with numbers of configs."""

    summary: str = Field(description="One line a person can read.")
    categories: list[str] = Field(description="First folders of the paths.")
    model_families: list[str]
    api_providers: list[str]
    tasks: dict[str, int]
    techniques: dict[str, int]
    clouds: dict[str, int] = Field(description="Of the job configs.")
    total_configs: int
    oumi_version: str
    configs_source: str = Field(
        description="Source of Oumi's own configs, or why they are missing."
    )
    version_warning: str = Field(description="Set if they may not fit the installed Oumi.")


class CatalogService:
    """The catalogue, and its library of Oumi's configs, which is fetched in the background.

    Args:
        catalog: The catalogue.
        fetches: Whether to fetch the library when it is missing.
        fetch_after_seconds: How long after the start of the server.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        fetches: bool = True,
        fetch_after_seconds: float = FETCH_AFTER_SECONDS,
    ) -> None:
        self.catalog = catalog
        self._fetches = fetches
        self._fetch_after_seconds = fetch_after_seconds

    @property
    def library(self) -> OumiLibrary:
        """Oumi's library."""
        return self.catalog.library

    async def fetch_later(self) -> None:
        """Fetch Oumi's library once the server has started."""
        await anyio.sleep(self._fetch_after_seconds)
        await anyio.to_thread.run_sync(self._refresh)

    async def search(
        self, query: Sequence[str], *, content_match: Sequence[str] = (), limit: int = 20
    ) -> ConfigSearch:
        """Find configs.

        Args:
            query: Words for path, model, task, technique, data set or GPUs.
            content_match: Texts that the file must contain.
            limit: How many to return at most.
        """
        return await anyio.to_thread.run_sync(self._search, query, content_match, limit)

    async def get(self, path: str) -> ConfigDetail:
        """Read one config, with the steps to adapt it.

        Raises:
            ConfigNotFound: There is none at this path.
        """
        return await anyio.to_thread.run_sync(self._get, path)

    async def categories(self) -> Categories:
        """List what the catalogue has."""
        return await anyio.to_thread.run_sync(self._categories)

    def _refresh(self) -> None:
        if self._fetches:
            self.library.refresh()

    def _search(
        self, query: Sequence[str], content_match: Sequence[str], limit: int
    ) -> ConfigSearch:
        self._refresh()
        found = self.catalog.search(query, content_match=content_match, limit=limit)
        rows = _rows_within(found.entries, max_bytes=max(_ROWS_BYTES, _ROW_BYTES * limit))
        asked = ", ".join([*query, *(f"with {text!r} inside" for text in content_match)])
        what = f"{found.total} config{'s' * (found.total != 1)}{f' for {asked}' if asked else ''}"
        parts = [what if found.total <= len(rows) else f"{what}; the first {len(rows)} follow"]
        parts += _explain_misses(found)
        parts += [f"no {word}; nearest is {nearest}" for word, nearest in found.misspelt]
        parts += [f"{word} is only in the name of a {what}" for word, what in found.only_in_names]
        if any(word in _FAMILIES for term in query for word in term.lower().split()):
            parts.append("get_started with topic pipelines-and-sweeps has the format of both")
        parts += _missing(self.library.status())
        return ConfigSearch(summary="; ".join(parts) + ".", total=found.total, configs=rows)

    def _get(self, path: str) -> ConfigDetail:
        self._refresh()
        config = self.catalog.get(path)
        entry = config.entry
        content = _shorten(config.text)
        what = entry.description or f"{entry.task or entry.config_type} config {entry.path}"
        return ConfigDetail(
            summary=f"{what} (only its beginning; all of it is at file_path)"
            if content != config.text
            else what,
            path=entry.path,
            file_path=str(config.file),
            content=content,
            config_type=entry.config_type,
            task=entry.task,
            technique=entry.technique,
            model_name=entry.model_name,
            datasets=list(entry.datasets),
            gpu=entry.gpu,
            related=self.catalog.related_paths(entry)[:_MAX_RELATED],
            next_step=_next_step(config),
        )

    def _categories(self) -> Categories:
        self._refresh()
        starter, oumi = self.catalog.starter, self.catalog.oumi
        entries = [*starter, *oumi]
        status = self.library.status()
        total = len(entries)
        return Categories(
            summary=f"{total} configs: {len(starter)} of our own below {STARTER_PREFIX}, "
            f"{len(oumi)} of Oumi's" + "".join(f"; {part}" for part in _missing(status)) + ".",
            categories=_names(e.path.partition("/")[0] for e in entries if "/" in e.path),
            model_families=_names(e.model_family for e in entries),
            api_providers=_names(e.path.split("/")[1] for e in oumi if e.path.startswith("apis/")),
            tasks=_counts(entry.task for entry in entries),
            techniques=_counts(entry.technique for entry in entries),
            clouds=_counts(entry.cloud for entry in entries),
            total_configs=total,
            oumi_version=self.library.oumi_version,
            configs_source=status.message,
            version_warning=""
            if status.state is not LibraryState.FOLDER
            else f"Whether these configs fit Oumi {self.library.oumi_version} is not known",
        )


def _explain_misses(found: Found) -> list[str]:
    """Say which terms match nothing, and what to do about it."""
    parts = ["none matches all words; these match most"] if found.is_partial else []
    if found.unmet:
        none = ", ".join(found.unmet)
        hint = "" if found.is_partial else ": leave it out or look at list_categories"
        parts.append(f"nothing has {none}{hint}")
    elif found.without[1]:
        term, count = found.without
        parts.append(f"without {term} there {'is' if count == 1 else 'are'} {count}")
    elif not found.total:
        parts.append("use fewer terms")
    return parts


def _shorten(text: str) -> str:
    """The text, or the whole lines of its beginning if it is long."""
    if len(text.encode()) <= _MAX_CONTENT_BYTES:
        return text
    beginning = text.encode()[:_MAX_CONTENT_BYTES].decode(errors="ignore")
    return beginning.rpartition("\n")[0] + "\n"


def _row(entry: Entry) -> ConfigRow:
    return ConfigRow(
        path=entry.path,
        description=entry.description,
        config_type=entry.config_type,
        task=entry.task,
        technique=entry.technique,
        model_name=entry.model_name,
        datasets=list(entry.datasets[:_MAX_DATASETS]),
        gpu=entry.gpu,
        cloud=entry.cloud,
    )


def _rows_within(entries: Iterable[Entry], *, max_bytes: int) -> list[ConfigRow]:
    kept: list[ConfigRow] = []
    size = 0
    for entry in entries:
        row = _row(entry)
        size += len(row.model_dump_json()) + 1
        if size > max_bytes:
            break
        kept.append(row)
    return kept


def _missing(status: LibraryStatus) -> list[str]:
    """Explain a library that is missing."""
    match status.state:
        case LibraryState.FOLDER | LibraryState.READY:
            return []
        case LibraryState.FETCHING:
            return ["Oumi's own configs are being fetched: search again in a few seconds"]
        case _:
            return [f"Oumi's own configs are not here ({status.message})"]


def _next_step(config: Config) -> str:
    entry = config.entry
    name = Path(entry.path).name
    steps = [f"Write content to {name} in your working folder (or copy file_path)"]
    match entry.config_type:
        case ConfigType.JOB:
            runs = f" and the configs it runs ({', '.join(entry.runs)})" if entry.runs else ""
            steps.append(f"put your resources, paths{runs} in order")
        case ConfigType.TRAINING:
            steps.append("set your data set and output_dir")
        case _:
            steps.append("set your model, data and output paths")
    if entry.config_type:
        steps.append(f'check it with validate_config(task_type="{entry.config_type}")')
    if entry.config_type not in ("", ConfigType.JUDGE, ConfigType.ASYNC_EVALUATION):
        steps.append("see run_oumi_job's dry run")
    return "; ".join(steps) + "."


def _names(names: Iterable[str]) -> list[str]:
    return sorted(_counts(names))


def _counts(names: Iterable[str]) -> dict[str, int]:
    """The most frequent names, each with its count."""
    return dict(Counter(name for name in names if name).most_common(_MAX_NAMES))
