"""Write a row's tokens as text, with marks around what the loss covers."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from pydantic_core import to_json

from flows.core.training_data.preview import TRAINED_FROM, TRAINED_TO

_REPEATS: Final = 8
"""From so many equal tokens on, such as those that stand for an image, they are counted."""


def masked_text(
    tokens: Sequence[int], trained: Sequence[bool], decode: Callable[[list[int]], str]
) -> str:
    """Decode tokens, with ⟦ and ⟧ around each part that is trained.

    Args:
        tokens: The tokens of a row.
        trained: Whether the loss covers each of them.
        decode: The tokenizer's own function.
    """
    parts: list[str] = []
    for is_trained, group in groupby(zip(tokens, trained, strict=True), key=lambda pair: pair[1]):
        text = "".join(_pieces([token for token, _ in group], decode))
        parts.append(f"{TRAINED_FROM}{text}{TRAINED_TO}" if is_trained else text)
    return "".join(parts)


def _pieces(tokens: list[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    plain: list[int] = []
    for token, group in groupby(tokens):
        count = len(list(group))
        if count < _REPEATS:
            plain += [token] * count
            continue
        if plain:
            yield decode(plain)
            plain = []
        yield f"{decode([token])}*{count}"
    if plain:
        yield decode(plain)


def shorten(text: str, limit: int) -> str:
    """Leave out the middle of a text that has more than `limit` bytes as JSON, and say so."""
    kept = len(text)
    short = text
    while kept and (size := len(to_json(short))) > limit:
        kept = min(kept - 1, kept * limit // size)
        gap = f" […{len(text) - kept:,} characters left out…] "
        short = f"{text[: kept - kept // 2]}{gap}{text[len(text) - kept // 2 :]}"
    return short
