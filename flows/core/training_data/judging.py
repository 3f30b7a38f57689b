"""Decide which facts about training data are findings."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from flows.core.findings import FindingCode, Severity
from flows.core.training_data.preview import DataFacts

_MUCH_TRUNCATED: Final = 0.2
_MANY_DUPLICATES: Final = 0.1
_UNLABELLED: Final = 0.05
_SOME: Final = 0.01
"""From this part of the rows on, a defect is reported."""


class DataFinding(NamedTuple):
    """Something wrong with the data."""

    severity: Severity
    code: FindingCode
    message: str
    fix: str

    @property
    def text(self) -> str:
        """The finding on one line."""
        return f"{self.message[:1].upper()}{self.message[1:]}. {self.fix}."


def judge(facts: DataFacts, *, split: str = "train") -> list[DataFinding]:
    """List what is wrong with the rows, errors first."""
    if not facts.rows_checked:
        return []
    return sorted(_findings(facts, split), key=lambda finding: finding.severity)


def _findings(facts: DataFacts, split: str) -> Iterator[DataFinding]:
    rows, built = facts.rows_checked, facts.rows_checked - facts.failed
    if facts.failed:
        message = f"Oumi refuses {_part(facts.failed, rows)} of {split}: {facts.first_failure}"
        yield DataFinding(
            Severity.ERROR, FindingCode.BAD_DATA_ROW, message, "Correct or remove these rows"
        )
    if facts.no_label and facts.no_label >= built:
        yield _no_label_at_all(facts, split)
    for code, count, of, least, what, fix in _warnings(facts):
        if count and count >= least * of:
            yield DataFinding(Severity.WARNING, code, f"{_part(count, of)} of {split} {what}", fix)
    overlap, of = facts.overlap or 0, facts.validation_rows or 0
    if overlap and of and overlap >= _SOME * of:
        yield DataFinding(
            Severity.WARNING,
            FindingCode.DATA_OVERLAP,
            f"{_part(overlap, of)} of validation are in train, too",
            "Remove them from one of the two, or the validation loss says little",
        )


def _no_label_at_all(facts: DataFacts, split: str) -> DataFinding:
    message = f"no row of {split} has a token to learn from ({facts.no_label:,} rows were read)"
    if facts.truncated and facts.truncated >= facts.rows_checked / 2:
        fix = (
            f"Raise model.model_max_length (now {facts.max_length}): rows are cut before the answer"
        )
    else:
        fix = (
            "Check the collator's templates against the chat template, the data set's "
            "assistant_only, and whether the trainer adds labels (TRL_SFT does, HF does not)"
        )
    return DataFinding(Severity.ERROR, FindingCode.NO_LABEL_LEFT, message, fix)


_Warning = tuple[FindingCode, int | None, int, float, str, str]


def _warnings(facts: DataFacts) -> Iterator[_Warning]:
    rows, built = facts.rows_checked, facts.rows_checked - facts.failed
    longest = facts.longest.tokens if facts.longest else 0
    # fmt: off
    if facts.no_label is not None and facts.no_label < built:
        yield (FindingCode.NO_LABEL_LEFT, facts.no_label, rows, _UNLABELLED,
               "have no token to learn from", "See them with preview_data, or remove them")
    yield (FindingCode.MUCH_TRUNCATED, facts.truncated, rows, _MUCH_TRUNCATED,
           f"are cut at {facts.max_length} tokens (the longest has {longest:,})",
           "Raise model.model_max_length, or split long rows")
    yield (FindingCode.EMPTY_ANSWERS, facts.empty, rows, _SOME,
           "have an empty answer", "Remove them, or the model learns to say nothing")
    yield (FindingCode.EQUAL_PAIRS, facts.equal_pairs, rows, _SOME,
           "have the same chosen and rejected answer", "Remove them: they teach nothing")
    yield (FindingCode.ROLE_ORDER, facts.role_order, rows, _SOME,
           "have turns in an unusual order",
           "Let user and assistant alternate, and end with assistant")
    yield (FindingCode.DATA_DUPLICATES, facts.duplicates, rows, _MANY_DUPLICATES,
           "repeat the prompt and the answer of an earlier row",
           "Remove the repetitions, unless they are meant")
    # fmt: on


def _part(count: int, of: int) -> str:
    noun = "row" if of == 1 else "rows"
    return f"{count:,} of {of:,} {noun} ({100 * count / of:.3g} %)"
