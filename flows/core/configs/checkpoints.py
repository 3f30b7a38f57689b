"""Find the checkpoint that a training can resume from."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

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


def _is_whole(path: Path) -> bool:
    try:
        state = read_json(path / STATE)
        return bool(state) and isinstance(state, dict) and _has_weights(path)
    except (OSError, ValueError):
        return False


def _has_weights(path: Path) -> bool:
    files = {file for pattern in _WEIGHTS for file in path.glob(pattern)}
    if not files or any(file.stat().st_size == 0 for file in files):
        return False
    whole_at = (path / STATE).stat().st_mtime
    if any(file.stat().st_mtime > whole_at + COARSE_SECONDS for file in files):
        return False
    names = {file.name for file in files}
    return all(_shards(index) <= names for index in path.glob(_INDEX))


def _shards(index: Path) -> set[str]:
    """Read the names of the files that a sharded model's index lists."""
    try:
        content = cast("dict[str, dict[str, str]]", read_json(index))
        return set(content["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not an index of weights") from error
