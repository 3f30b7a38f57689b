"""What a warm host imports, seen in what Oumi's commands import (oumi 0.9)."""

from typing import Final

MODULES: Final = (
    "oumi.cli.main",
    "oumi.builders",
    "oumi.core.configs",
    "oumi.core.distributed",
    "oumi.core.trainers",
    "oumi.telemetry",
    "oumi.utils.torch_utils",
    "trl.trainer.sft_trainer",
)
"""Not `oumi.train` and its like: a module of that name hides the function `oumi.train`."""
