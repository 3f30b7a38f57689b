"""A preview in a process of its own: ``flows.launcher.oumi.preview_process QUESTION ANSWER``.

Both are files; the answer is a `DataPreview` or an error as JSON. Code of data sets and of models
that is not Oumi's runs here, and so does what reads from the network or decodes images.
"""

import os
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from flows.core.errors import OumiFlowsError
from flows.core.training_data.preview import DataQuestion

_MEMORY_BYTES: Final = 12_000_000_000
"""What the process may take; importing Oumi takes about 1.5 GB of it."""


def main() -> None:
    """Answer the question of the command line."""
    question_file, answer_file = map(Path, sys.argv[1:3])
    _limit_memory()
    question = DataQuestion.model_validate_json(question_file.read_bytes())
    try:
        answer = _answer(question)
    except OumiFlowsError as error:
        answer_file.write_text(f"{error}", encoding="utf-8")
        sys.exit(1)
    answer_file.write_text(answer, encoding="utf-8")


def _answer(question: DataQuestion) -> str:
    from flows.launcher.loading import load_oumi

    load_oumi()
    _read_first_rows_only(question.most_rows)
    from flows.launcher.oumi.training_data import preview_data

    return preview_data(question).model_dump_json()


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))


def _read_first_rows_only(most_rows: int) -> None:
    """Make every `datasets.load_dataset` of this process stream, and end after the first rows.

    Oumi's classes download a data set as a whole (oumi 0.9).
    """
    datasets: Any = import_module("datasets")
    datasets.disable_progress_bars()
    whole: Any = datasets.load_dataset

    def first_rows(*args: Any, **kwargs: Any) -> Any:
        wants_stream = kwargs.pop("streaming", False)
        try:
            found: Any = whole(*args, **kwargs, streaming=True)
        except ConnectionError:
            # It may be in the cache, from which nothing is streamed (datasets 4.8).
            found = whole(*args, **kwargs, streaming=wants_stream)
        return found if wants_stream else _tables(found, most_rows)

    datasets.load_dataset = first_rows


def _tables(found: Any, most_rows: int) -> Any:
    """The first rows of a streamed data set, or of each of its splits, as tables."""
    if not isinstance(found, dict):
        return _table(found, most_rows)
    datasets: Any = import_module("datasets")
    splits = cast("dict[str, Any]", found)
    return datasets.DatasetDict({name: _table(part, most_rows) for name, part in splits.items()})


def _table(stream: Any, most_rows: int) -> Any:
    rows: list[Any] = list(islice(iter(stream), most_rows))
    table: Any = import_module("datasets").Dataset
    return table.from_list(rows, features=stream.features)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of a data set's own may still be running.
    os._exit(0)
