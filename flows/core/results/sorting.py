"""Sort the files of a job into checkpoints, models, evaluations and others."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.core.configs.marks import STATE
from flows.core.results.listing import FileFact, Listing, Root, relative
from flows.core.results.values import OutputKind

RESULT: Final = "task_result.json"
"""File of `oumi evaluate` 0.9, one per task."""
LATEST_STEP: Final = "latest_checkpointed_iteration.txt"
"""File of verl 0.7, which it writes after a whole checkpoint."""

_CHECKPOINT: Final = re.compile(r"(?:checkpoint-|global_step_)(\d{1,12})")
_WEIGHTS: Final = re.compile(
    r"(?:model|pytorch_model|diffusion_pytorch_model)[\w.-]*\.(?:safetensors|bin)"
    r"|consolidated[\w.-]*\.(?:pth|safetensors)|[\w.-]+\.gguf"
)
_ADAPTER: Final = re.compile(r"adapter_model[\w.-]*\.(?:safetensors|bin)")
_OF_MODEL: Final = frozenset(
    {
        *(".safetensors", ".bin", ".pth", ".gguf", ".json", ".model", ".jinja", ".tiktoken"),
        *(".spm", ".py", ".md"),
    }
)
"""Endings of the files that Transformers 5 and tokenizers save and load as a model."""
_VOCABULARIES: Final = frozenset({"vocab.txt", "merges.txt"})
_METRICS: Final = re.compile(r"metrics_rank\d+\.jsonl|trials_results\.csv")
_LOG_FOLDERS: Final = frozenset({"logs", "telemetry", "runs", "wandb"})
_LOG: Final = re.compile(r"events\.out\.tfevents\..*|.*\.log|.*\.out")


class Group(NamedTuple):
    """Files that are one result.

    Attributes:
        folder: Absolute.
        step: Of a checkpoint.
    """

    folder: str
    files: Sequence[FileFact]
    root: Root
    step: int = 0

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(fact.size for fact in self.files)

    def names(self) -> list[str]:
        """The names of its files."""
        return [PurePosixPath(fact.path).name for fact in self.files]

    @property
    def has_adapter(self) -> bool:
        """Whether it has the weights of an adapter."""
        return any(map(_ADAPTER.fullmatch, self.names()))

    @property
    def has_whole_weights(self) -> bool:
        """Whether it has the weights of a whole model."""
        return any(map(_WEIGHTS.fullmatch, self.names()))


class OtherFile(NamedTuple):
    """A file that is no part of a checkpoint or model."""

    fact: FileFact
    root: Root
    kind: OutputKind


class Sorted(NamedTuple):
    """The results of a job.

    Attributes:
        checkpoints: The last attempt's and the highest step first.
        models: Folders with weights outside of checkpoints.
        evaluations: Folders with the result of an evaluation's task.
        others: All other files.
    """

    checkpoints: list[Group]
    models: list[Group]
    evaluations: list[Group]
    others: list[OtherFile]


def sort_files(listing: Listing) -> Sorted:
    """Sort files into results."""
    checkpoints, groups = _group(listing)
    models = [one for one in groups if one.has_adapter or one.has_whole_weights]
    evaluations = [one for one in groups if RESULT in one.names() and one not in models]
    models = [_only_model(one) for one in models]
    taken = {fact.path for one in (*models, *evaluations) for fact in one.files}
    return Sorted(
        sorted(checkpoints, key=lambda one: (one.root.attempt or 0, one.step), reverse=True),
        models,
        evaluations,
        [
            OtherFile(fact, group.root, _kind(fact, group, listing))
            for group in groups
            for fact in group.files
            if fact.path not in taken
        ],
    )


def _group(listing: Listing) -> tuple[list[Group], list[Group]]:
    """Group the files by the checkpoint that they are in, and the others by their folder."""
    checkpoints: dict[tuple[str, int], list[FileFact]] = {}
    folders: dict[str, list[FileFact]] = {}
    roots: dict[str, Root] = {}
    for root in listing.roots:
        for fact in root.files:
            within = _checkpoint_of(fact, root)
            if within is None:
                folder = str(PurePosixPath(fact.path).parent)
                folders.setdefault(folder, []).append(fact)
                roots[folder] = root
            else:
                checkpoints.setdefault(within, []).append(fact)
                roots[within[0]] = root
    found = [Group(at, files, roots[at], step) for (at, step), files in checkpoints.items()]
    return found, [Group(folder, files, roots[folder]) for folder, files in folders.items()]


def _checkpoint_of(fact: FileFact, root: Root) -> tuple[str, int] | None:
    """The folder and step of the checkpoint that a file is in."""
    parts = PurePosixPath(relative(fact.path, root.folder)).parts
    for number, part in enumerate(parts[:-1], start=1):
        if match := _CHECKPOINT.fullmatch(part):
            return str(PurePosixPath(root.folder, *parts[:number])), int(match[1])
    return None


def _only_model(group: Group) -> Group:
    """The files of a model, without those that its training leaves beside it."""
    files = [fact for fact in group.files if _is_of_model(PurePosixPath(fact.path))]
    return group._replace(files=files)


def _is_of_model(path: PurePosixPath) -> bool:
    is_known = path.suffix in _OF_MODEL or path.name in _VOCABULARIES
    return is_known and path.name != STATE


def _kind(fact: FileFact, group: Group, listing: Listing) -> OutputKind:
    path = PurePosixPath(fact.path)
    kind = listing.kind_of(fact.path)
    if _METRICS.fullmatch(path.name):
        return OutputKind.METRICS
    if kind in (OutputKind.INFERENCE, OutputKind.SYNTHESIS, OutputKind.ANALYSIS):
        return kind
    inner = PurePosixPath(relative(group.folder, group.root.folder)).parts
    if _LOG.fullmatch(path.name) or not _LOG_FOLDERS.isdisjoint(inner):
        return OutputKind.LOG
    return kind
