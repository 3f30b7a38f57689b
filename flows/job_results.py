"""What a job that succeeded leaves on its run and beside its results, for those who look later."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import httpx
from prefect.exceptions import ObjectNotFound

from flows import names
from flows.result_metrics import ResultFiles, kept_metrics, read_metrics
from flows.run_record import LabelValue, RunRecord


async def keep_results(
    record: RunRecord,
    logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
    *,
    own_output: bool,
) -> None:
    """Keep the metrics of a job on its run, because another may write over its files.

    Args:
        record: The run of the job, which has succeeded.
        logger: The run's log.
        own_output: Whether its folder is one of many, of which ``latest`` is to be this one.
    """
    folder, log_path = (
        Path(str(value)) if value else None
        for value in map(record.labels.get, (names.LABEL_OUTPUT_DIR, names.LABEL_LOG_PATH))
    )
    if own_output and folder is not None:
        await asyncio.to_thread(link_latest, folder)
    began = record.run.start_time
    files = ResultFiles(folder, log_path, since=began.timestamp() if began else 0.0)
    found = await asyncio.to_thread(read_metrics, files)
    if found:
        kept: dict[str, LabelValue] = {names.LABEL_METRICS: kept_metrics(found)}
        try:
            await record.label(kept)
        except (httpx.HTTPError, ObjectNotFound) as error:
            logger.warning("The metrics of the job were not kept: %s", error)


def link_latest(folder: Path) -> None:
    """Have ``latest`` beside a folder mean it, unless it means a later one or is none of ours."""
    link = folder.with_name(names.LATEST)
    draft = folder.with_name(f".{names.LATEST}-{folder.name}")
    with suppress(OSError):  # a file system without links; the folder itself is there
        if link.is_symlink():
            if str(link.readlink()) >= folder.name:
                return
        elif link.exists():
            return
        if folder.is_dir():
            draft.unlink(missing_ok=True)
            draft.symlink_to(folder.name, target_is_directory=True)
            draft.replace(link)
