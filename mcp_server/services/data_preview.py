"""The rows that a training will learn from; the tools and the terminal both call this."""

from typing import Final

import anyio.to_thread

from flows.core.configs.reader import resolve_config_path
from flows.core.configs.schema import ConfigType
from flows.core.file_names import expand_home
from flows.core.names import PREVIEW_FLOW
from flows.core.training_data.preview import DataPreview, Split
from mcp_server.services.worker_calls import WorkerCalls

_WAIT_SECONDS: Final = 25.0
"""Several clients end a call after 30 s. A preview that takes longer continues."""


class DataPreviewService:
    """Asks the worker for the rows of trainings.

    Args:
        calls: Questions to the worker.
        wait_seconds: How long one call waits for the answer.
    """

    def __init__(self, calls: WorkerCalls, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._calls = calls
        self._wait_seconds = wait_seconds

    async def preview(
        self, config: str, *, client_cwd: str, split: Split = "train", rows: int = 3
    ) -> DataPreview:
        """Show rows as the trainer will get them, and what is wrong with the first rows.

        Args:
            config: Path of a training config, or of a job config that trains.
            client_cwd: Absolute folder that relative paths start from.
            split: Which data.
            rows: How many rows to show, 0 to `preview.MOST_ROWS`.

        Raises:
            ConfigNotFound: There is no such file.
            InvalidConfig: The config, the tokenizer or a data set cannot be read.
            OperationTimeout: There is no answer yet; the next call gets it.
        """
        path = await anyio.to_thread.run_sync(
            resolve_config_path, config, client_cwd, ConfigType.TRAINING
        )
        return await self._calls.call_again(
            PREVIEW_FLOW,
            {
                "config_path": str(path),
                "client_cwd": str(expand_home(client_cwd)),
                "split": split,
                "rows": rows,
            },
            DataPreview,
            timeout_seconds=self._wait_seconds,
            name=f"{PREVIEW_FLOW} {path.name}",
        )
