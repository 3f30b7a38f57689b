"""Find the checkpoint that a training can resume from."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, cast

from flows.core.configs.marks import CHECKPOINT, STATE
from flows.core.models import Value
from flows.core.regular_files import read_json

_NAME: Final = re.compile(rf"{CHECKPOINT}(\d+)")
COARSE_SECONDS: Final = 2.0
"""How much older than its job a checkpoint may look, since file systems round times."""
_INDEX: Final = "*.index.json"
_WEIGHTS: Final = (
    "*.safetensors",
    "pytorch_model*.bin",
    "adapter_model.bin",
    "pytorch_model_fsdp*/*",  # FSDP, sharded
    "global_step*/*",  # DeepSpeed
    "model/*",  # Oumi's own trainer
)


class FileStat(NamedTuple):
    """What a file system says of a file; the time is in seconds since the epoch."""

    size: int
    written_at: float


class Checkpoint(Value):
    """A complete checkpoint of a training run."""

    path: Path
    step: int

    @property
    def written_at(self) -> float:
        """When it was complete, in seconds since the epoch."""
        try:
            return (self.path / STATE).stat().st_mtime
        except OSError:  # deleted meanwhile
            return float("-inf")


def whole_checkpoints(output_dir: Path) -> Iterator[Checkpoint]:
    """Find the complete checkpoints in a folder, the highest step first.

    Skip a checkpoint whose process died while writing it: the trainers write
    ``trainer_state.json`` last. Skip also a checkpoint that another training began to overwrite:
    its weights are newer than that file.
    """
    try:
        found = [(int(m[1]), p) for p in output_dir.iterdir() if (m := _NAME.fullmatch(p.name))]
    except (OSError, ValueError):
        return
    for step, path in sorted(found, reverse=True):
        if _is_whole(path):
            yield Checkpoint(path=path, step=step)


def is_whole(files: Mapping[str, FileStat], read: Callable[[str], object]) -> bool:
    """Whether a training can resume from a checkpoint.

    Args:
        files: Its files, by their path in its folder.
        read: Reads the JSON of one of them; may raise `OSError` or `ValueError`.
    """
    state = files.get(STATE)
    weights = {name: stat for name, stat in files.items() if _is_any(name, _WEIGHTS)}
    if state is None or not weights or any(stat.size == 0 for stat in weights.values()):
        return False
    whole_at = state.written_at + COARSE_SECONDS
    if any(stat.written_at > whole_at for stat in weights.values()):
        return False
    try:
        content = read(STATE)
        return bool(content) and isinstance(content, dict) and _has_all_shards(files, weights, read)
    except (OSError, ValueError):
        return False


def _has_all_shards(
    files: Iterable[str], weights: Iterable[str], read: Callable[[str], object]
) -> bool:
    """Whether every file that an index of weights names is there."""
    indexes = [name for name in files if _is_any(name, (_INDEX,))]
    names = {PurePosixPath(name).name for name in weights}
    return all(_shards(read(name)) <= names for name in indexes)


def _is_whole(path: Path) -> bool:
    try:
        found = {file for pattern in (STATE, _INDEX, *_WEIGHTS) for file in path.glob(pattern)}
        stats = {file.relative_to(path).as_posix(): file.stat() for file in found}
    except OSError:
        return False
    files = {name: FileStat(stat.st_size, stat.st_mtime) for name, stat in stats.items()}
    return is_whole(files, lambda name: read_json(path / name))


def _is_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether a relative path matches a pattern, part by part."""
    parts = name.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def _shards(content: object) -> set[str]:
    """The names of the files that the index of a sharded model lists.

    Raises:
        ValueError: It is no index.
    """
    try:
        return set(cast("dict[str, dict[str, str]]", content)["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an index of weights") from error
