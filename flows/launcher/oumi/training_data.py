"""Show the rows of a training as its trainer will get them, and count what is wrong with them."""

import logging
import tempfile
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flows.core.errors import InvalidConfig
from flows.core.training_data.facts import Content, Counter, Size
from flows.core.training_data.judging import judge
from flows.core.training_data.masked_text import shorten
from flows.core.training_data.preview import DataFacts, DataPreview, DataQuestion, PreviewRow
from flows.launcher.loading import load_oumi
from flows.launcher.oumi.data_rows import Fed, RowBuilder, content_of
from flows.launcher.oumi.data_sets import Part, load_parts, split_of
from flows.launcher.oumi.training_config import Parts, build_config, build_parts, one_line
from flows.launcher.oumi.trl_rows import prepare_rows

_TEXT_BYTES: Final = 6000
"""Of all shown rows together; an answer holds 12 kB."""
_QUOTES: Final = "Could not find (response|instruction) (template|key)"
_KINDS: Final = {
    "TRL_DPO": "preference",
    "TRL_KTO": "kto",
    "TRL_GRPO": "prompts",
    "VERL_GRPO": "prompts",
    "TRL_GKD": "raw",
    "TRL_GOLD": "raw",
}
_MASKED: Final = (
    "⟦ and ⟧ enclose what the loss covers; the model reads the rest and learns nothing from it. "
    "The first token of a row is never predicted."
)
_LEGENDS: Final = {
    "preference": f"{_MASKED} Each pair is compared: chosen against rejected.",
    "kto": f"{_MASKED} TRL tokenizes these rows itself; the counts are close.",
    "prompts": "The trainer generates the answers itself, so only the columns are shown.",
    "raw": "The trainer applies the chat template and the mask itself, so only the columns are "
    "shown.",
    "packed": f"{_MASKED} Rows are joined and cut into packs of one length, without their masks.",
}


def preview_data(question: DataQuestion) -> DataPreview:
    """Build the first rows of a training's split, count their defects, and show some of them.

    The rows come from Oumi's own classes, its tokenizer and its collator. They read only the first
    rows of each data set.

    Raises:
        InvalidConfig: The config, the tokenizer or a data set cannot be read.
    """
    load_oumi()
    with _quiet(), tempfile.TemporaryDirectory(prefix="oumi-flows-data-") as folder:
        parts = build_parts(build_config(question))
        return _Reading(parts, question, Path(folder)).preview()


@dataclass
class _Reading:
    parts: Parts
    question: DataQuestion
    folder: Path
    counter: Counter = field(default_factory=Counter)
    shown: list[tuple[str, int, Fed]] = field(default_factory=list[tuple[str, int, Fed]])
    notes: list[str] = field(default_factory=list[str])
    packable: list[Any] = field(default_factory=list[Any])
    is_late: bool = False

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.question.seconds
        self._builder = RowBuilder(self.parts)

    def preview(self) -> DataPreview:
        split = self.question.split
        if not split_of(self.parts.config, split).datasets:
            raise InvalidConfig(f"data.{split} names no data set", "Ask for another split")
        loaded = [self._read(part) for part in self._load(split)]
        if split_of(self.parts.config, split).pack:
            self._read_packs()
        facts = self._count(loaded)
        total, is_exact = facts.rows_total, facts.total_is_exact
        if total is None or facts.rows_checked < total:
            self.notes.insert(0, _share_read(facts.rows_checked, total, is_exact=is_exact))
        if self.is_late:
            self.notes.append(f"Reading stopped after {self.question.seconds:g} s.")
        return self._describe(facts, self._kind(loaded))

    def _count(self, loaded: Sequence[Part]) -> DataFacts:
        total, is_exact = _total(loaded)
        train, validation = self._digests(self.question.split)
        return self.counter.facts(
            rows_total=total,
            total_is_exact=is_exact,
            max_length=self.parts.max_length,
            train=train,
            validation=validation,
        )

    def _describe(self, facts: DataFacts, kind: str) -> DataPreview:
        split = self.question.split
        findings = judge(facts, split=split)
        begin = self.notes[0] if self.notes else f"All rows were read: {facts.rows_checked:,}."
        found = findings[0].text if findings else "Nothing is wrong."
        more = f" And {len(findings) - 1} more." if len(findings) > 1 else ""
        return DataPreview(
            summary=f"{split}, {kind}. {begin} {found}{more}",
            split=split,
            kind=kind,
            legend=_LEGENDS.get(kind, _MASKED),
            rows=self._rows(),
            facts=facts,
            findings=[finding.text for finding in findings],
            notes=self.notes,
        )

    def _load(self, split: str) -> Iterator[Part]:
        for part in load_parts(self.parts, self.question, split, self.folder):
            yield part if part.is_registered else prepare_rows(part, self.parts, self.folder)

    def _read(self, part: Part) -> Part:
        is_packed = split_of(self.parts.config, self.question.split).pack
        for index in range(part.rows):
            if time.monotonic() > self._deadline:
                self.is_late = True
                break
            try:
                content = content_of(part.dataset, index)
                row, full = self._builder.build(part.dataset, index)
                if is_packed:
                    self._keep_for_packs(part.name, index, list(row["input_ids"]), full)
                    fed = None
                else:
                    fed = self._builder.feed(row, full)
            except Exception as error:  # noqa: BLE001 - data sets and collators raise anything
                columns = _columns(part.dataset, index) if isinstance(error, KeyError) else ""
                self.counter.fail(f"row {index} of {part.name}: {one_line(error)}{columns}")
                continue
            self.counter.read(content)
            if fed is not None:
                self._take(part.name, index, fed)
        return part

    def _take(self, name: str, index: int, fed: Fed) -> None:
        if fed.size is not None:
            self.counter.measure(fed.size, dataset=name, row=index)
        self._show(name, index, fed)

    def _show(self, name: str, index: int, fed: Fed) -> None:
        if len(self.shown) < self.question.rows:
            self.shown.append((name, index, fed))

    def _keep_for_packs(self, name: str, index: int, ids: list[int], full: int | None) -> None:
        self.packable.append({"input_ids": ids})
        self.counter.measure(Size(len(ids), full or len(ids), None), dataset=name, row=index)

    def _read_packs(self) -> None:
        """Pack the rows as Oumi does; a pack keeps no labels of its rows (oumi 0.9)."""
        from oumi.core.datasets.pretraining_async_text_dataset import PretrainingAsyncTextDataset

        length = self.parts.config.model.model_max_length or 1024
        packs: Any = PretrainingAsyncTextDataset(
            self.parts.tokenizer,
            self.packable,  # pyright: ignore[reportArgumentType]
            seq_length=length,
        )
        for index, pack in enumerate(packs):
            self._show("pack", index, self._builder.feed(pack, None))

    def _digests(self, split: str) -> tuple[list[bytes] | None, list[bytes] | None]:
        """The digests of train and validation that are compared with the rows of the split."""
        if split == "test" or not split_of(self.parts.config, "validation").datasets:
            return None, None
        other = "validation" if split == "train" else "train"
        try:
            found = [content.digest for content in self._contents(other)]
        except InvalidConfig as error:
            self.notes.append(f"{other} was not compared: {error.what}.")
            return None, None
        if split == "train":
            return None, found
        return found, self.counter.digests

    def _contents(self, split: str) -> Iterator[Content]:
        for part in load_parts(self.parts, self.question, split, self.folder):
            for index in range(part.rows):
                if time.monotonic() > self._deadline:
                    self.is_late = True
                    return
                try:
                    yield content_of(part.dataset, index)
                except Exception:  # noqa: BLE001, S112 - a preview of that split reports the row
                    continue

    def _kind(self, loaded: Sequence[Part]) -> str:
        if split_of(self.parts.config, self.question.split).pack:
            return "packed"
        if any(isinstance(part.dataset, list) for part in loaded):
            return "pretraining"
        return _KINDS.get(self.parts.trainer, "sft")

    def _rows(self) -> list[PreviewRow]:
        limit = _TEXT_BYTES // max(1, len(self.shown))
        return [_row(name, index, fed, limit) for name, index, fed in self.shown]


def _row(name: str, index: int, fed: Fed, limit: int) -> PreviewRow:
    size = fed.size or Size(0, 0, None)
    return PreviewRow(
        dataset=name,
        row=index,
        text=shorten(fed.write(), limit),
        tokens=size.tokens if fed.size else None,
        trained_tokens=size.trained_tokens,
        truncated=size.full_tokens > size.tokens,
        shapes=fed.shapes,
    )


def _columns(dataset: Any, index: int) -> str:
    raw: Any = dataset.raw(index) if hasattr(dataset, "raw") else {}
    return f"; its columns are {', '.join(map(str, dict(raw)))[:200]}"


def _total(loaded: Sequence[Part]) -> tuple[int | None, bool]:
    totals = [part.total for part in loaded]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return None, False
    return sum(known), all(part.is_exact for part in loaded)


def _share_read(rows: int, total: int | None, *, is_exact: bool) -> str:
    if total is None:
        return f"The first {rows:,} rows were read; there are more."
    return f"The first {rows:,} of {'' if is_exact else 'about '}{total:,} rows were read."


@contextmanager
def _quiet() -> Generator[None]:
    """Keep what Oumi logs in this thread, some of it for each row, out of the worker's log."""
    thread = threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    # Its collators quote each row in a warning, which would go to the worker's log.
    warnings.filterwarnings(
        "ignore", message="Could not find (response|instruction) (template|key)"
    )
    logger = logging.getLogger("oumi")
    logger.addFilter(is_of_others)
    try:
        yield
    finally:
        logger.removeFilter(is_of_others)
