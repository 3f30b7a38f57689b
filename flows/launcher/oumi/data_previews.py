"""Previews of training data on the worker: at once in a thread, or in a process of their own.

Oumi is loaded in the worker, so a thread answers at once; a process costs some 12 CPU seconds of
imports. A thread cannot be stopped, nor its memory limited. So it gets only what Oumi's own text
classes read from local files, of which it sees a sample. Everything else has a process.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from flows.core.checks.values import items_of, mapping_of, text_of
from flows.core.errors import (
    ERRORS,
    InternalError,
    InvalidConfig,
    OperationTimeout,
    OumiFlowsError,
)
from flows.core.file_names import exists, is_file, is_folder
from flows.core.training_data.preview import DataPreview, DataQuestion
from flows.launcher.bounded import in_time
from flows.launcher.loading import load_oumi
from oumi_flows import python_command

_COMMAND: Final = tuple(python_command("flows.launcher.oumi.preview_process"))
_LOADING_SECONDS: Final = 60.0
"""How long a process may take before it begins to read, on a busy machine."""
_GRACE_SECONDS: Final = 5.0
_TAIL: Final = 2000


class DataPreviews:
    """Answers questions about training data on this machine.

    Args:
        environ: The environment of processes.
        command: Starts a process that answers; the files of question and answer follow.
        loading_seconds: How long the process may take before it begins to read.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        command: Sequence[str] = _COMMAND,
        loading_seconds: float = _LOADING_SECONDS,
    ) -> None:
        self._environ = environ
        self._command = command
        self._loading_seconds = loading_seconds

    async def preview(
        self, question: DataQuestion, *, envs: Mapping[str, str] | None = None
    ) -> DataPreview:
        """Build, count and show rows.

        Args:
            question: What to read.
            envs: Environment variables of the job.

        Raises:
            InvalidConfig: The config, the tokenizer or a data set cannot be read.
            OperationTimeout: Reading took too long, and was ended.
        """
        question = await asyncio.to_thread(use_cached_models, question)
        reason = await asyncio.to_thread(needs_process, question)
        if envs or reason:
            return await self._in_process(question, envs or {})
        answer = await self.at_once(question, within_seconds=question.seconds + _GRACE_SECONDS)
        if answer is None:
            raise _late(question.seconds + _GRACE_SECONDS)
        return answer

    async def at_once(self, question: DataQuestion, *, within_seconds: float) -> DataPreview | None:
        """Answer in a thread; None: it takes longer.

        Call `use_cached_models` and `needs_process` before.

        Raises:
            InvalidConfig: The config, the tokenizer or a data set cannot be read.
        """
        # Imported here: importing this module must not load Oumi.
        from flows.launcher.oumi.training_data import preview_data

        return await in_time(lambda: preview_data(question), timeout_seconds=within_seconds)

    async def _in_process(self, question: DataQuestion, envs: Mapping[str, str]) -> DataPreview:
        seconds = self._loading_seconds + question.seconds
        with tempfile.TemporaryDirectory(prefix="oumi-flows-preview-") as name:
            folder = Path(name)
            asked, answered, log = (folder / part for part in ("question", "answer", "log"))
            asked.write_text(question.model_dump_json(), encoding="utf-8")
            command = [*self._command, str(asked), str(answered)]
            process = await self._start(command, question.folder, envs, log)
            try:
                await asyncio.wait_for(process.wait(), seconds)
            except TimeoutError as error:
                raise _late(seconds) from error
            finally:
                await asyncio.shield(_end(process))
            return _read_answer(answered, log, process.returncode)

    async def _start(
        self, command: list[str], folder: str, envs: Mapping[str, str], log: Path
    ) -> asyncio.subprocess.Process:
        with log.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=self._own_environment(envs),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _own_environment(self, envs: Mapping[str, str]) -> dict[str, str]:
        root = str(Path(__file__).parents[3])
        paths = [root, *filter(None, [self._environ.get("PYTHONPATH")])]
        return {
            **self._environ,
            **envs,
            # The folder of the client may hold modules of any name.
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            "CUDA_VISIBLE_DEVICES": "",
            "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }


def use_cached_models(question: DataQuestion) -> DataQuestion:
    """Name the folders of models in the hub's cache, so that the hub is not asked. Blocks."""
    model = dict(mapping_of(question.content.get("model")))
    revision = model.get("model_revision")
    for key in ("model_name", "tokenizer_name"):
        name = text_of(model.get(key))
        if name and not is_folder(Path(question.folder) / name):
            model[key] = _find_cached(name, text_of(revision)) or name
    return question.model_copy(update={"content": {**question.content, "model": model}})


def _find_cached(name: str, revision: str) -> str:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision or None)
    except (HFValidationError, OSError):
        return ""
    folder = Path(found).parent if isinstance(found, str) else None
    has_all = folder and all(
        is_file(folder / file) for file in ("tokenizer.json", "tokenizer_config.json")
    )
    return str(folder) if has_all else ""


def needs_process(question: DataQuestion) -> str:
    """Say why a question needs a process of its own; "": a thread can answer it. Blocks."""
    folder = Path(question.folder)
    model = mapping_of(question.content.get("model"))
    for name in filter(None, (model.get("model_name"), model.get("tokenizer_name"))):
        if not is_folder(folder / str(name)):
            return f"{name} is not a folder on this machine"
    if model.get("trust_remote_code"):
        return "the model brings code of its own"
    splits = mapping_of(question.content.get("data"))
    for split in ("train", "validation"):
        values = mapping_of(splits.get(split))
        if str(values.get("collator_name") or "").startswith("vision"):
            return "images are decoded"
        for item in items_of(values.get("datasets")):
            if reason := _own_process_of(mapping_of(item), folder):
                return reason
    return ""


def _own_process_of(dataset: Mapping[str, Any], folder: Path) -> str:
    name, path = text_of(dataset.get("dataset_name")), text_of(dataset.get("dataset_path"))
    if not path or (exists(folder / path) and not _is_plain(folder / path)):
        return f"{name} is not a file on this machine"
    load_oumi()
    from oumi.core.registry import REGISTRY

    registry: Any = REGISTRY
    found = registry.get_dataset(name, subset=dataset.get("subset"))
    if found is None:
        return f"Oumi has no class for {name}"
    module: str = found.__module__
    if not module.startswith("oumi.") or ".vision_language." in module:
        return f"{name} runs code of {module}"
    return ""


def _is_plain(path: Path) -> bool:
    return is_file(path) or is_folder(path)


def _read_answer(answered: Path, log: Path, status: int | None) -> DataPreview:
    text = answered.read_text(encoding="utf-8") if answered.exists() else ""
    if status == 0 and text:
        return DataPreview.model_validate_json(text)
    if text:
        raise _error(text)
    tail = log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip().splitlines()
    last = " ".join((tail or [""])[-1].split())[:300].replace(". ", "; ")
    how = f"signal {-status}" if status and status < 0 else f"status {status}"
    if "MemoryError" in last or status == -signal.SIGKILL:
        raise InvalidConfig(
            "Reading the data took more memory than a preview may use",
            "Show fewer rows, or smaller ones",
        )
    raise InvalidConfig(f"Reading the data crashed ({how}): {last}", "Correct the data set's code")


def _error(text: str) -> OumiFlowsError:
    code, _, rest = text.partition(": ")
    what, _, next_step = rest.partition(". ")
    return ERRORS.get(code, InternalError)(what, next_step.rstrip(".") or "Correct it")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process with all it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE_SECONDS)


def _late(seconds: float) -> OperationTimeout:
    return OperationTimeout(
        f"The data was not read within {seconds:g} s", "Try a smaller part of it, or a local copy"
    )
