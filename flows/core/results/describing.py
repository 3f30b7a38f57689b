"""Describe the results of a job: their sizes, and what their small files say. Blocking."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, Literal
from uuid import UUID

import pydantic_core

from flows.core.checks.values import mapping_of
from flows.core.configs.checkpoints import FileStat, is_whole
from flows.core.configs.marks import MARK, STATE, Mark, named_in
from flows.core.errors import InvalidArgument
from flows.core.result_metrics import task_scores
from flows.core.results.best import LoggedValue, find_best
from flows.core.results.listing import FileFact, Listing, Place, is_within, relative
from flows.core.results.sorting import LATEST_STEP, RESULT, Group, OtherFile, Sorted, sort_files
from flows.core.results.values import (
    BestCheckpoint,
    FoundCheckpoint,
    FoundFile,
    FoundModel,
    FoundScore,
    JobResults,
    OutputKind,
)

_VERL: Final = "global_step_"
_TASK: Final = "task_params.json"
_ADAPTER_CONFIG: Final = "adapter_config.json"
_CONFIG: Final = "config.json"
_SMALL_BYTES: Final = 65_536
_STATE_BYTES: Final = 4_000_000
"""Of a ``trainer_state.json``, which has every logged value of the training."""
_STATES_READ: Final = 3
_READ_MAX: Final = 200
_ROW_FILES: Final = 8
_ROW_BYTES: Final = 8_192
_ROWS: Final = 3
_ROW_CHARS: Final = 300
_SHOWN: Final = (".jsonl", ".csv", ".json", ".txt", ".tsv")
_WITH_ROWS: Final = (
    OutputKind.SYNTHESIS,
    OutputKind.INFERENCE,
    OutputKind.ANALYSIS,
    OutputKind.OTHER,
)
_KIND_ORDER: Final = (*_WITH_ROWS[:3], OutputKind.EVALUATION, OutputKind.METRICS)

Recorded = Callable[[], Sequence[LoggedValue]]


class Found:
    """The results of a job, and what describes them.

    Args:
        job_id: The job; what another job marked is left out.
        listing: All files.
        place: Reads them.
        recorded: Reads the values of the training record.
    """

    def __init__(self, job_id: str, listing: Listing, place: Place, recorded: Recorded) -> None:
        self._job_id = UUID(job_id)
        self.listing = listing
        self._place = place
        self._recorded = recorded
        self._notes = list(listing.notes)
        self._marks: dict[str, Mark] = {}
        self.sorted = self._only_own(sort_files(listing))
        self._states = self._read_states()
        self.whole = [one for one in self.sorted.checkpoints if self._is_whole(one)]
        self.best = self._find_best()

    @property
    def best_group(self) -> Group | None:
        """The files of the best checkpoint."""
        if self.best is None:
            return None
        return next((one for one in self.whole if one.step == self.best.step), None)

    def refuse_target(self, folder: str) -> None:
        """Refuse to copy results of this machine into the folder that they are in.

        Raises:
            InvalidArgument: The folder is in a folder of results.
        """
        named = {one.path for one in self.listing.outputs if not one.is_file}
        for root in self.listing.roots:
            # A script's working folder may well have the copy in it.
            is_inside = root.folder in named and is_within(folder, root.folder)
            if folder == root.folder or is_inside:
                raise InvalidArgument(
                    f"{folder} is in the folder of the results, {root.folder}",
                    "Collect into a folder outside of it",
                )

    def own_files(self) -> list[FileFact]:
        """All files but those that another job marked."""
        found = self.sorted
        groups = (*found.checkpoints, *found.models, *found.evaluations)
        grouped = [fact for group in groups for fact in group.files]
        return [*grouped, *(one.fact for one in found.others)]

    def describe(self, *, where: str) -> JobResults:
        """Describe everything; the answer may be long."""
        every = self.own_files()
        results = JobResults(
            summary="",
            job_id=str(self._job_id),
            where=where,
            folders=[root.folder for root in self.listing.roots],
            best_checkpoint=self.best,
            checkpoints=[self._checkpoint(one) for one in self.sorted.checkpoints],
            models=list(self._models()),
            scores=list(self._scores()),
            files=self._files(),
            total_files=len(every),
            total_bytes=sum(fact.size for fact in every),
            notes=self._notes,
        )
        return results.model_copy(update={"summary": summarise(results)})

    def _only_own(self, found: Sorted) -> Sorted:
        """Leave out checkpoints and models that another job marked as its own."""
        groups = [*found.checkpoints, *found.models]
        marked = [f"{one.folder}/{MARK}" for one in groups if MARK in one.names()][:_READ_MAX]
        for path, content in self._read_json(marked, _SMALL_BYTES).items():
            self._marks[str(PurePosixPath(path).parent)] = named_in(content)
        others = [one for one in groups if not self._is_own(one)]
        if others:
            self._notes.append(f"{len(others)} checkpoints or models of other jobs are left out")
        return found._replace(
            checkpoints=[one for one in found.checkpoints if one not in others],
            models=[one for one in found.models if one not in others],
        )

    def _is_own(self, group: Group) -> bool:
        mark = self._marks.get(group.folder)
        return mark is None or mark.job_id in (None, self._job_id)

    def _attempt(self, group: Group) -> int | None:
        mark = self._marks.get(group.folder)
        return group.root.attempt or (mark.attempt if mark and mark.job_id else None)

    def _read_states(self) -> dict[str, object]:
        having = [one for one in self.sorted.checkpoints if STATE in one.names()]
        paths = [f"{one.folder}/{STATE}" for one in having[:_STATES_READ]]
        return self._read_json(paths, _STATE_BYTES)

    def _is_whole(self, group: Group) -> bool:
        if PurePosixPath(group.folder).name.startswith(_VERL):
            return self._last_whole_step(group) >= group.step
        files = {
            relative(fact.path, group.folder): FileStat(fact.size, fact.written_at)
            for fact in group.files
        }

        def read(name: str) -> object:
            path = f"{group.folder}/{name}"
            if name == STATE and path not in self._states:
                return {"step": group.step}  # read of the newest ones alone
            return self._states.get(path) or self._read_json([path], _STATE_BYTES).get(path)

        return is_whole(files, read)

    def _last_whole_step(self, group: Group) -> int:
        """The step that verl names beside its checkpoints; -1 if there is none."""
        paths = [path for path in self._beside(group) if path.endswith(f"/{LATEST_STEP}")]
        return max(map(_number, self._place.read(paths, limit=64).values()), default=-1)

    def _beside(self, group: Group) -> Iterator[str]:
        parent = str(PurePosixPath(group.folder).parent)
        for other in self.sorted.others:
            if str(PurePosixPath(other.fact.path).parent) == parent:
                yield other.fact.path

    def _find_best(self) -> BestCheckpoint | None:
        steps = [one.step for one in self.whole]
        if not steps:
            return None
        newest = next((one for one in self.whole if f"{one.folder}/{STATE}" in self._states), None)
        state = self._states.get(f"{newest.folder}/{STATE}") if newest else None
        found = find_best(steps, mapping_of(state), ())
        return found or find_best(steps, {}, self._recorded())

    def _checkpoint(self, group: Group) -> FoundCheckpoint:
        return FoundCheckpoint(
            path=group.folder,
            step=group.step,
            bytes=group.size,
            whole=group in self.whole,
            best=group == self.best_group,
            attempt=self._attempt(group),
        )

    def _models(self) -> Iterator[FoundModel]:
        models = self.sorted.models[:_READ_MAX]
        paths = [f"{one.folder}/{name}" for one in models for name in (_CONFIG, _ADAPTER_CONFIG)]
        read = self._read_json(paths, _SMALL_BYTES)
        for group in models:
            adapter = mapping_of(read.get(f"{group.folder}/{_ADAPTER_CONFIG}"))
            yield FoundModel(
                path=group.folder,
                kind=self._kind_of(group),
                bytes=group.size,
                base_model=str(adapter.get("base_model_name_or_path") or ""),
                quantization=_quantization(
                    mapping_of(read.get(f"{group.folder}/{_CONFIG}")), group
                ),
                attempt=self._attempt(group),
            )

    def _kind_of(self, group: Group) -> Literal["full", "adapter", "merged"]:
        if group.has_adapter:
            return "adapter"
        output = self.listing.output_of(group.folder)
        return "merged" if output is not None and output.merges else "full"

    def _scores(self) -> Iterator[FoundScore]:
        groups = self.sorted.evaluations[:_READ_MAX]
        names = (RESULT, _TASK)
        read = self._read_json([f"{one.folder}/{name}" for one in groups for name in names], 2**24)
        for group in groups:
            path = f"{group.folder}/{RESULT}"
            task = mapping_of(read.get(f"{group.folder}/{_TASK}")).get("task_name")
            name = task if isinstance(task, str) else ""
            for metric, value in task_scores(read.get(path), name).items():
                own = metric.removeprefix(f"{name}.") if name else metric
                yield FoundScore(task=name, metric=own, value=value, path=path)

    def _files(self) -> list[FoundFile]:
        others = sorted(self.sorted.others, key=_order)
        shown = [one for one in others if _has_rows(one)][:_ROW_FILES]
        heads = self._place.read([one.fact.path for one in shown], limit=_ROW_BYTES)
        return [
            FoundFile(
                path=one.fact.path,
                kind=one.kind,
                bytes=one.fact.size,
                rows=first_rows(heads.get(one.fact.path, b"")),
            )
            for one in others
        ]

    def _read_json(self, paths: Sequence[str], limit: int) -> dict[str, object]:
        """Read JSON files; leave out those that cannot be read."""
        found: dict[str, object] = {}
        for path, raw in self._place.read(paths, limit=limit).items():
            try:
                found[path] = pydantic_core.from_json(raw)
            except ValueError:
                continue
        return found


def first_rows(head: bytes) -> list[str]:
    """The first lines of a text, shortened; none if it is no text."""
    if b"\0" in head:
        return []
    lines = head.decode("utf-8", "replace").splitlines()[:_ROWS]
    return [line if len(line) <= _ROW_CHARS else f"{line[:_ROW_CHARS]}…" for line in lines if line]


def summarise(results: JobResults) -> str:
    """Summarise results in one line."""
    counts = (
        (len(results.checkpoints), "checkpoint"),
        (len(results.models), "model"),
        (len(results.scores), "score"),
        (len(results.files), "other file"),
    )
    parts = [f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts if count]
    if not parts:
        return "; ".join([f"No results on {results.where} yet", *results.notes]) + "."
    best = results.best_checkpoint
    if best is not None:
        value = "" if best.value is None else f" {best.value:.4g}"
        parts.append(f"best checkpoint at step {best.step} by {best.metric}{value}")
    size = f"{results.total_bytes:,} bytes in {results.total_files} files on {results.where}"
    return "; ".join([*parts, size, *results.notes]) + "."


def _order(other: OtherFile) -> tuple[int, str]:
    kinds = _KIND_ORDER
    place = kinds.index(other.kind) if other.kind in kinds else len(kinds)
    return place + (other.kind is OutputKind.LOG), other.fact.path


def _has_rows(other: OtherFile) -> bool:
    return other.kind in _WITH_ROWS and other.fact.path.endswith(_SHOWN) and other.fact.size > 0


def _quantization(config: Mapping[str, Any], group: Group) -> str:
    if any(name.endswith(".gguf") for name in group.names()):
        return "gguf"
    method = mapping_of(config.get("quantization_config"))
    return str(method.get("quant_method") or "yes") if method else ""


def _number(text: bytes) -> int:
    digits = text.strip()
    return int(digits) if digits.isdigit() else -1
