"""A question about the data of a training, and its answer."""

from typing import Any, Final, Literal

from pydantic import Field

from flows.core.models import Answer, Value

Split = Literal["train", "validation", "test"]

MOST_ROWS: Final = 10
"""The most rows that an answer shows."""
TRAINED_FROM, TRAINED_TO = "⟦", "⟧"
"""Mark the parts of a row that the loss covers."""


class DataQuestion(Value):
    """What to read of a training's data, and how much of it at most."""

    content: dict[str, Any] = Field(description="The training config.")
    folder: str = Field(description="Absolute folder that relative paths start from.")
    split: Split = "train"
    rows: int = Field(default=3, ge=0, le=MOST_ROWS, description="Rows to show.")
    most_rows: int = Field(default=2000, ge=1, description="Rows to read of each data set.")
    most_bytes: int = Field(default=32_000_000, ge=1, description="Bytes to read of each file.")
    seconds: float = Field(default=15.0, gt=0, description="Time limit for building rows.")


class PreviewRow(Value):
    """A row as the trainer gets it."""

    dataset: str
    row: int = Field(description="Its place in the data set, from 0; of a pack: its number.")
    text: str = Field(description="Decoded tokens; the loss covers what is between ⟦ and ⟧.")
    tokens: int | None = Field(default=None, description="Null: the trainer tokenizes it itself.")
    trained_tokens: int | None = Field(
        default=None, description="Tokens that the loss covers; null: not known before training."
    )
    truncated: bool = False
    shapes: dict[str, list[int]] = Field(
        default_factory=dict[str, list[int]], description="Shapes of images and other inputs."
    )


class LongestRow(Value):
    """The longest row before truncation."""

    dataset: str
    row: int
    tokens: int


class DataFacts(Value):
    """Counts over the rows that were read. Null: it does not apply, or was not checked."""

    rows_checked: int
    rows_total: int | None = Field(default=None, description="Of all data sets of the split.")
    total_is_exact: bool = True
    max_length: int | None = Field(default=None, description="Tokens at which rows are cut.")
    truncated: int | None = None
    no_label: int | None = Field(default=None, description="Rows without any trained token.")
    empty: int = Field(default=0, description="Rows with an empty answer.")
    duplicates: int = Field(
        default=0, description="Rows with the prompt and the answer of an earlier row."
    )
    overlap: int | None = Field(default=None, description="Validation rows that train has, too.")
    validation_rows: int | None = Field(default=None, description="Validation rows compared.")
    role_order: int = Field(
        default=0, description="Conversations whose turns do not alternate and end with an answer."
    )
    equal_pairs: int = Field(default=0, description="Rows whose chosen and rejected are the same.")
    failed: int = Field(default=0, description="Rows that Oumi refuses.")
    first_failure: str = ""
    longest: LongestRow | None = None


class DataPreview(Answer):
    """The rows of one split as the trainer gets them, and facts about them."""

    split: str
    kind: str = Field(description="sft, packed, pretraining, preference, kto, prompts or raw.")
    legend: str
    rows: list[PreviewRow]
    facts: DataFacts
    findings: list[str] = Field(
        default_factory=list[str], description="What is wrong with the data, the worst first."
    )
    notes: list[str] = Field(
        default_factory=list[str], description="What was not read, checked or shown, and why."
    )
