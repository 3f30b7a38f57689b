"""Replace the data sets of a split by their first rows, so that no reader sees more."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from flows.core.checks.data_files import ROWS_OF
from flows.core.errors import InvalidConfig
from flows.core.file_names import is_file, is_folder
from flows.core.regular_files import open_regular_file
from flows.core.training_data.preview import DataQuestion
from flows.core.training_data.sample import Sample, cut_json, cut_jsonl

_XLSX_BYTES: Final = 20_000_000


def cut_sample(path: Path, into: Path, question: DataQuestion, *, name: str, key: str) -> Sample:
    """Write the first rows of a data set on this machine into the folder `into`.

    Args:
        path: A file, or a folder that `datasets` has saved.
        into: An empty folder.
        question: How much to read.
        name: The registered name of the data set.
        key: The config's key of the path, for errors.

    Raises:
        InvalidConfig: The file is missing, or cannot be read.
    """
    into.mkdir(parents=True, exist_ok=True)
    limits: dict[str, Any] = {"most_rows": question.most_rows, "most_bytes": question.most_bytes}
    try:
        match path.suffix.lower():
            case _ if is_folder(path):
                return _cut_saved(path, into, question.most_rows, key)
            case _ if not is_file(path):
                raise InvalidConfig(f"{key} is {path}, which does not exist", "Correct the path")
            case ".jsonl":
                is_strict = name.lower() in ROWS_OF
                return cut_jsonl(path, into, **limits, is_strict=is_strict, key=key)
            case ".json":
                return cut_json(path, into, **limits, key=key)
            case ".parquet":
                return _cut_parquet(path, into, question.most_rows)
            case suffix if suffix == ".xlsx" and path.stat().st_size <= _XLSX_BYTES:
                return Sample(path, 0, None)
            case suffix:
                raise InvalidConfig(
                    f"{key} is {path}; of files named *{suffix or ' without an ending'} no part "
                    "can be read" + " and this one is large" * (suffix == ".xlsx"),
                    "Use .jsonl, .json, .parquet or a folder that `datasets` has saved",
                )
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise InvalidConfig(
            f"{key} is {path}, which cannot be read ({reason})", "Correct it"
        ) from error


def _cut_parquet(path: Path, into: Path, most_rows: int) -> Sample:
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    with open_regular_file(path) as stream:
        try:
            file: Any = parquet.ParquetFile(stream)
            total: int = file.metadata.num_rows
            batches: list[Any] = [next(file.iter_batches(batch_size=most_rows))] if total else []
        except arrow.ArrowInvalid as error:
            raise OSError(str(error)) from error
        schema: Any = file.schema_arrow
    target = into / "sample.parquet"
    table: Any = arrow.Table.from_batches(batches, schema=schema)
    parquet.write_table(table, target)
    return Sample(target, table.num_rows, total)


def _cut_saved(path: Path, into: Path, most_rows: int, key: str) -> Sample:
    """Cut a folder that `Dataset.save_to_disk` wrote; its files are mapped, not read."""
    datasets: Any = import_module("datasets")
    # The same test as `is_cached_to_disk_hf_dataset` of oumi 0.9.
    if not all(is_file(path / name) for name in ("dataset_info.json", "state.json")):
        raise InvalidConfig(
            f"{key} is {path}, a folder that `datasets` has not saved",
            "Name a file, or a folder that Dataset.save_to_disk wrote",
        )
    datasets.disable_progress_bars()
    try:
        whole: Any = datasets.Dataset.load_from_disk(str(path))
    except (ValueError, json.JSONDecodeError, KeyError) as error:
        raise OSError(str(error)) from error
    target = into / "sample"
    total = len(whole)
    count = min(total, most_rows)
    whole.select(range(count)).save_to_disk(str(target))
    return Sample(target, count, total)
