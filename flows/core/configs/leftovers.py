"""Find results of earlier trainings in an output folder."""

from pathlib import Path
from typing import Final
from uuid import UUID

from pydantic import Field

from flows.core.configs.checkpoints import whole_checkpoints
from flows.core.configs.marks import read_mark
from flows.core.models import Value

_MODEL: Final = ("model*.safetensors", "pytorch_model*.bin")
_ADAPTER: Final = ("adapter_model.safetensors", "adapter_model.bin")


class Leftovers(Value):
    """Results of earlier trainings in a folder.

    Attributes:
        model: The file of a whole model's weights, or of the first part of them.
        adapter: The file of an adapter's weights.
        checkpoints: How many whole checkpoints there are.
        jobs: The jobs that wrote them, from their marks.
    """

    model: str = ""
    adapter: str = ""
    checkpoints: int = 0
    jobs: list[UUID] = Field(default_factory=list[UUID])

    @property
    def words(self) -> str:
        """Describe the results for people; empty if there are none."""
        count = self.checkpoints
        checkpoints = f"{count} checkpoint{'s' * (count != 1)}" if count else ""
        return " and ".join(filter(None, [self.model, self.adapter, checkpoints]))


def read_leftovers(folder: Path) -> Leftovers:
    """Find results of earlier trainings in a folder; none if it is missing or unreadable."""
    checkpoints = list(whole_checkpoints(folder))
    marks = map(read_mark, [folder, *(one.path for one in checkpoints)])
    return Leftovers(
        model=_first(folder, _MODEL),
        adapter=_first(folder, _ADAPTER),
        checkpoints=len(checkpoints),
        jobs=list(dict.fromkeys(mark.job_id for mark in marks if mark and mark.job_id)),
    )


def _first(folder: Path, patterns: tuple[str, ...]) -> str:
    try:
        return next((path.name for one in patterns for path in sorted(folder.glob(one))), "")
    except OSError:
        return ""
