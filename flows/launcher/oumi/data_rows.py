"""The rows of a data set of Oumi's, as each kind of trainer gets them (oumi 0.9, trl 1.6)."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from flows.core.training_data.contents import Turn, content_of_row, content_of_turns
from flows.core.training_data.facts import Content, Size
from flows.core.training_data.masked_text import masked_text
from flows.launcher.oumi.training_config import Parts

_IGNORED: Final = -100
"""The label that PyTorch's loss leaves out."""
_NO_LIMIT: Final = 1_000_000_000
_KEPT_BY_TRL: Final = ("input_ids", "labels", "seq_lengths", "completion_mask", "assistant_masks")
"""The columns of text that TRL's SFT trainer keeps (trl 1.6)."""
_OF_TEXT: Final = frozenset(
    {"input_ids", "labels", "attention_mask", "token_type_ids", "position_ids"}
)
_PAIRS: Final = (
    ("prompt_ids", "chosen_ids", "rejected_ids"),
    ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids"),
)
"""The columns of tokenized preferences, of trl from 0.29 and before."""


class Fed(NamedTuple):
    """A row as the trainer gets it.

    Attributes:
        write: Writes it as text; only the rows that are shown are written.
        size: Its tokens; None: the trainer tokenizes it itself.
        shapes: The shapes of images and other inputs.
    """

    write: Callable[[], str]
    size: Size | None
    shapes: dict[str, list[int]]


class RowBuilder:
    """Builds the rows of data sets for one trainer.

    Args:
        parts: Tokenizer, collator and limits.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._limit = getattr(parts.tokenizer, "model_max_length", None)

    def build(self, dataset: Any, index: int) -> tuple[Any, int | None]:
        """Build a row; return it with the number of its tokens before it was cut.

        Raises:
            Exception: What Oumi's class raises.
        """
        if self._limit is None:
            return dataset[index], None
        self._parts.tokenizer.model_max_length = _NO_LIMIT
        try:
            row = dataset[index]
        finally:
            self._parts.tokenizer.model_max_length = self._limit
        full = _length(row)
        if full is not None and full > self._limit:
            row = dataset[index]
        return row, full

    def feed(self, row: Mapping[str, Any], full: int | None) -> Fed:
        """Make the batch of one row that the trainer gets.

        Raises:
            Exception: What the collator raises.
        """
        trainer = self._parts.trainer
        if trainer == "TRL_KTO" and "completion" in row:
            return self._feed_completion(row)
        for names in _PAIRS:
            if all(name in row for name in names):
                return self._feed_pair(*(_list(row[name]) for name in names))
        if trainer in ("TRL_GRPO", "VERL_GRPO", "TRL_GKD", "TRL_GOLD"):
            return Fed(lambda: str(dict(row)), None, {})
        return self._feed_tokens(row, full)

    def _feed_tokens(self, row: Mapping[str, Any], full: int | None) -> Fed:
        batch: Any = {name: [_list(row[name])] for name in _OF_TEXT if name in row}
        if self._parts.collator is not None:
            batch = self._parts.collator([self._keep(row)])
        if "input_ids" not in batch:
            names = ", ".join(map(str, row))
            raise ValueError(f"the row has no input_ids, only {names or 'nothing'}")
        ids = _list(batch["input_ids"][0])
        labels = _list(batch["labels"][0]) if batch.get("labels") is not None else None
        kept = self._without_padding(batch, len(ids), _length(row))
        ids = ids[kept]
        # The model predicts each token from those before it, so never the first.
        trained = [label != _IGNORED for label in labels[kept]] if labels else [False] * len(ids)
        trained[:1] = [False] * len(trained[:1])
        size = Size(len(ids), max(full or 0, len(ids)), sum(trained))
        shapes = {name: list(value.shape) for name, value in batch.items()
                  if name not in _OF_TEXT and hasattr(value, "shape")}  # fmt: skip
        return Fed(lambda: masked_text(ids, trained, self._decode), size, shapes)

    def _keep(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        config = self._parts.config.training
        if config.trainer_type.name != "TRL_SFT" or "input_ids" not in row:
            return row
        if config.trainer_kwargs.get("remove_unused_columns", True) is False:
            return row
        return {name: _list(row[name]) for name in _KEPT_BY_TRL if name in row}

    def _without_padding(self, batch: Any, length: int, given: int | None) -> slice:
        mask = batch.get("attention_mask")
        count = int(sum(_list(mask[0]))) if mask is not None else min(length, given or length)
        is_left = getattr(self._parts.tokenizer, "padding_side", "right") == "left"
        return slice(length - count, length) if is_left else slice(0, count)

    def _feed_pair(self, prompt: list[int], chosen: list[int], rejected: list[int]) -> Fed:
        limit = self._parts.max_length
        sides = [_truncate(prompt, side, limit) for side in (chosen, rejected)]
        lengths = [len(prompt) + len(side) for side in (chosen, rejected)]
        size = Size(
            max(len(ids) for ids, _ in sides), max(lengths), sum(sum(mask) for _, mask in sides)
        )

        def write() -> str:
            texts = [masked_text(ids, mask, self._decode) for ids, mask in sides]
            return f"chosen: {texts[0]}\nrejected: {texts[1]}"

        return Fed(write, size, {})

    def _feed_completion(self, row: Mapping[str, Any]) -> Fed:
        tokenizer = self._parts.tokenizer
        texts = [content_text(row[name]) for name in ("prompt", "completion")]
        prompt, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        ids, mask = _truncate(prompt, [*answer, tokenizer.eos_token_id], self._parts.max_length)
        size = Size(len(ids), len(prompt) + len(answer) + 1, sum(mask))
        kind = "desirable" if row.get("label") else "undesirable"
        return Fed(lambda: f"{kind}: {masked_text(ids, mask, self._decode)}", size, {})

    def _decode(self, tokens: list[int]) -> str:
        return str(self._parts.tokenizer.decode(tokens, skip_special_tokens=False))


def content_of(dataset: Any, index: int) -> Content:
    """The content of a row, before it is tokenized.

    Raises:
        Exception: What Oumi's class raises.
    """
    read = getattr(dataset, "transform_conversation", None)
    if read is not None and hasattr(dataset, "raw"):
        conversation: Any = read(dataset.raw(index))
        return content_of_turns([_turn(message) for message in conversation.messages])
    row: Any = dataset.raw(index) if hasattr(dataset, "raw") else dataset[index]
    return content_of_row(dict(row))


def content_text(value: Any) -> str:
    """The text of a prompt or a completion, which may be a chat."""
    return content_of_row({"response": value}).answer


def _turn(message: Any) -> Turn:
    role = getattr(message.role, "value", message.role)
    has_more = bool(message.tool_calls) or message.contains_images()
    return Turn(str(role), message.compute_flattened_text_content(), has_more)


def _truncate(
    prompt: list[int], answer: list[int], limit: int | None
) -> tuple[list[int], list[bool]]:
    ids = (prompt + answer)[:limit]
    return ids, [index >= max(1, len(prompt)) for index in range(len(ids))]


def _length(row: Any) -> int | None:
    return len(row["input_ids"]) if "input_ids" in row else None


def _list(value: Any) -> list[Any]:
    return value.tolist() if hasattr(value, "tolist") else list(value)
