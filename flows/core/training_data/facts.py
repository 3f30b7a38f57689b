"""Count what is wrong with the rows of a data set."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from flows.core.training_data.preview import DataFacts, LongestRow

_ANSWERS: Final = "assistant"


@dataclass(frozen=True)
class Content:
    """What a row says, whatever its format.

    Attributes:
        prompt: All before the answer, as one text.
        answer: The last answer; of a preference, both.
        roles: The roles of a conversation's turns, in order; empty: it is none.
        has_empty_answer: Whether an answer has no text and no tool call.
        has_equal_pair: Whether the chosen and the rejected answer are the same.
    """

    prompt: str
    answer: str
    roles: tuple[str, ...] = ()
    has_empty_answer: bool = False
    has_equal_pair: bool = False

    @property
    def digest(self) -> bytes:
        """A hash of prompt and answer; white space at their ends does not count."""
        text = f"{self.prompt.strip()}\0{self.answer.strip()}"
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


@dataclass(frozen=True)
class Size:
    """The tokens of a row.

    Attributes:
        tokens: As many as the trainer gets.
        full_tokens: As many as there are before the row is cut.
        trained_tokens: As many as the loss covers; None: not known.
    """

    tokens: int
    full_tokens: int
    trained_tokens: int | None


@dataclass
class Counter:
    """Counts the rows of a split, one by one.

    Attributes:
        rows: How many there are.
        digests: A hash of the content of each.
    """

    rows: int = 0
    _sized: int = 0
    _labelled: int = 0
    _truncated: int = 0
    _no_label: int = 0
    _empty: int = 0
    _duplicates: int = 0
    _role_order: int = 0
    _equal_pairs: int = 0
    _failed: int = 0
    _first_failure: str = ""
    _longest: LongestRow | None = None
    digests: list[bytes] = field(default_factory=list[bytes])
    _seen: set[bytes] = field(default_factory=set[bytes])

    def read(self, content: Content) -> None:
        """Count the content of a row."""
        self.rows += 1
        self._empty += content.has_empty_answer
        self._equal_pairs += content.has_equal_pair
        self._role_order += has_wrong_order(content.roles)
        digest = content.digest
        self._duplicates += digest in self._seen
        self._seen.add(digest)
        self.digests.append(digest)

    def fail(self, what: str) -> None:
        """Count a row that Oumi refuses."""
        self.rows += 1
        self._failed += 1
        self._first_failure = self._first_failure or what

    def measure(self, size: Size, *, dataset: str, row: int) -> None:
        """Count the tokens of a row."""
        self._sized += 1
        self._truncated += size.full_tokens > size.tokens
        if size.trained_tokens is not None:
            self._labelled += 1
            self._no_label += size.trained_tokens == 0
        if self._longest is None or size.full_tokens > self._longest.tokens:
            self._longest = LongestRow(dataset=dataset, row=row, tokens=size.full_tokens)

    def facts(
        self,
        *,
        rows_total: int | None,
        total_is_exact: bool,
        max_length: int | None,
        train: Iterable[bytes] | None = None,
        validation: Sequence[bytes] | None = None,
    ) -> DataFacts:
        """Return the counts.

        Args:
            rows_total: Rows of all data sets of the split; None: not known.
            total_is_exact: Whether this is no estimate.
            max_length: Tokens at which rows are cut.
            train: The digests of the rows of train; None: the rows that were counted.
            validation: The digests of the rows of validation; None: there is none.
        """
        overlap = None
        if validation is not None:
            known = self._seen if train is None else set(train)
            overlap = sum(digest in known for digest in validation)
        return DataFacts(
            rows_checked=self.rows,
            rows_total=rows_total,
            total_is_exact=total_is_exact,
            max_length=max_length,
            truncated=self._truncated if self._sized else None,
            no_label=self._no_label if self._labelled else None,
            empty=self._empty,
            duplicates=self._duplicates,
            overlap=overlap,
            validation_rows=None if validation is None else len(validation),
            role_order=self._role_order,
            equal_pairs=self._equal_pairs,
            failed=self._failed,
            first_failure=self._first_failure,
            longest=self._longest,
        )


def has_wrong_order(roles: Sequence[str]) -> bool:
    """Whether the turns of a conversation are in an order that chat templates do not expect.

    A system turn may come first. Then the person begins, the two alternate, and an answer is
    last. Results of tools come after an answer, and another answer follows them.
    """
    if not roles:
        return False
    turns = list(roles[1:] if roles[0] == "system" else roles)
    if not turns or turns[0] != "user" or turns[-1] != _ANSWERS or "system" in turns:
        return True
    allowed = {
        "user": {_ANSWERS},
        _ANSWERS: {"user", "tool"},
        "tool": {"tool", _ANSWERS},
    }
    return any(after not in allowed.get(before, {after}) for before, after in pairwise(turns))
