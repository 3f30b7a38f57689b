"""The data sets of a split, built by Oumi's own classes from their first rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from flows.core.errors import InvalidConfig
from flows.core.training_data.preview import DataQuestion
from flows.core.training_data.sample import Sample
from flows.launcher.oumi.data_samples import cut_sample
from flows.launcher.oumi.training_config import Parts, one_line


@dataclass(frozen=True)
class Part:
    """One data set of a split.

    Attributes:
        dataset: Oumi's or the `datasets` library's object; a list of rows of a stream.
        total: How many rows the whole has; None: not known.
    """

    name: str
    dataset: Any
    rows: int
    total: int | None
    is_exact: bool = True
    is_registered: bool = True


def split_of(config: Any, split: str) -> Any:
    """Oumi's params of a split."""
    return getattr(config.data, split)


def load_parts(parts: Parts, question: DataQuestion, split: str, folder: Path) -> Iterator[Part]:
    """Build each data set of a split.

    Raises:
        InvalidConfig: One of them cannot be built.
    """
    for index, params in enumerate(split_of(parts.config, split).datasets):
        key = f"data.{split}.datasets[{index}]"
        name, sample = params.dataset_name, None
        if params.dataset_path:
            path, into = Path(params.dataset_path), folder / f"{split}-{index}"
            sample = cut_sample(path, into, question, name=name, key=f"{key}.dataset_path")
        try:
            yield _load(parts, params, sample, question.most_rows)
        except InvalidConfig:
            raise
        except Exception as error:  # data sets raise anything
            raise _not_read(f"{key} ({name})", sample, error) from error


def _not_read(what: str, sample: Sample | None, error: Exception) -> InvalidConfig:
    columns = _columns(sample)
    has = f"; its columns are {columns}" if columns else ""
    return InvalidConfig(
        f"{what} cannot be read: {one_line(error)}{has}",
        "Correct the data set, its name or its dataset_kwargs",
    )


def _load(parts: Parts, params: Any, sample: Sample | None, most_rows: int) -> Part:
    """Build a data set as `_load_dataset` of oumi 0.9 does, without making a table of its rows."""
    from oumi.core.datasets import BasePretrainingDataset
    from oumi.core.registry import REGISTRY

    name: str = params.dataset_name
    registry: Any = REGISTRY
    dataset_class = registry.get_dataset(name, subset=params.subset)
    if dataset_class is None:
        return _load_unregistered(params, sample, most_rows)
    dataset = _build(dataset_class, params, sample, parts.tokenizer)
    if isinstance(dataset, BasePretrainingDataset):
        packs = list(islice(iter(dataset), most_rows))
        return Part(name, packs, len(packs), len(packs) if len(packs) < most_rows else None)
    rows = len(dataset)
    if sample is None:
        # The reader itself was given no more than a sample.
        return Part(name, dataset, rows, rows if rows < most_rows else None)
    return Part(name, dataset, rows, sample.total or rows, sample.is_exact)


def _build(dataset_class: Any, params: Any, sample: Sample | None, tokenizer: Any) -> Any:
    kwargs = dict(params.dataset_kwargs)
    return dataset_class(
        dataset_name=kwargs.pop("dataset_name_override", None) or params.dataset_name,
        dataset_path=str(sample.path) if sample else params.dataset_path,
        split=params.split,
        subset=params.subset,
        tokenizer=tokenizer,
        trust_remote_code=params.trust_remote_code,
        **kwargs,
    )


def _load_unregistered(params: Any, sample: Sample | None, most_rows: int) -> Part:
    datasets: Any = import_module("datasets")
    name = params.dataset_name
    if sample is not None and sample.path.is_dir():
        found: Any = datasets.Dataset.load_from_disk(str(sample.path))
        return Part(name, found, len(found), sample.total, sample.is_exact, is_registered=False)
    found = datasets.load_dataset(
        name, name=params.subset, split=params.split, **params.dataset_kwargs
    )
    if not isinstance(found, datasets.Dataset):
        raise ValueError(f"it has the splits {', '.join(map(str, found))}; set split to one")
    rows = len(found)
    return Part(name, found, rows, rows if rows < most_rows else None, is_registered=False)


def _columns(sample: Sample | None) -> str:
    if sample is None or sample.path.suffix != ".jsonl":
        return ""
    with sample.path.open("rb") as file:
        first = file.readline().removeprefix(b"\xef\xbb\xbf")
    return ", ".join(json.loads(first or b"{}"))[:200]
