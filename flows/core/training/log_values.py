"""Read metrics and their steps from what trainers print. For any text, it is fast and never raises.

It knows the mappings of Transformers and Oumi (``{'loss': '4.1', 'step': 10}``), JSON objects, the
lines of verl (``step:3 - actor/loss:0.2 - ...``), pairs beside a step (``step=3 loss=0.2``,
``Epoch 2/10, loss: 0.2``, ``iter 3: loss 0.2``) and the bars of tqdm, which only give the step. A
mapping may follow a bar or the name of a process (``[rank0]:``, ``0:``).
"""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from flows.core.divergence import raw_loss
from flows.core.numbers import LINE_CHARS, read_numbers, to_count, to_number

STEP_NAMES: Final = ("step", "global_step", "train/global_step", "iter", "iteration")
"""Names of the step in a record, best first."""
_NOT_METRICS: Final = frozenset({*STEP_NAMES, "pid", "seed", "rank", "line", "port"})

_NUMBER: Final = r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|inf(?:inity)?|nan)(?![\w:])"
_PAIR: Final = re.compile(
    rf"(?<![\w./-])(?P<name>[a-z_][\w./@-]{{0,80}}?)(?:\s{{0,4}}[:=]\s{{0,4}})(?P<value>{_NUMBER})",
    re.ASCII | re.IGNORECASE,
)
_WORD_PAIR: Final = re.compile(
    r"\b(?P<name>(?:train|val|valid|validation|eval|test)?[ _/-]?"
    r"(?:loss|acc|accuracy|ppl|perplexity|reward|lr|grad_norm))"
    rf"\s{{1,4}}(?P<value>{_NUMBER})",
    re.ASCII | re.IGNORECASE,
)
_STEPS: Final = [
    re.compile(
        rf"\b(?:{word})\b[ =:#\[]{{0,4}}(?P<step>\d{{1,16}})(?![\w.])", re.ASCII | re.IGNORECASE
    )
    for word in ("global[_ ]?step", "step|iter|iteration", "epoch")
]
_BAR: Final = re.compile(r"\d{1,3}%\|[^|]*\|\s*(?P<step>\d{1,16})/(?P<total>\d{1,16}) \[", re.ASCII)
# `torchrun --tee` names processes ``[default0]:``, `torchrun`'s ranks ``[rank0]:``, `srun --label`
# ``0:``.
_BEFORE_MAPPING: Final = re.compile(
    r"(?:.{0,200}\d/\d{1,16} \[[^\]]{1,100}\]|\[[a-z]{1,20}\d{1,6}\]:|\d{1,6}:) {0,4}(?=\{)",
    re.ASCII,
)


class Values(NamedTuple):
    """The metrics of a line.

    Attributes:
        step: Their step; None if the line has none.
        metrics: The values by name; may be not finite.
        total: Steps in all, if the line is a bar.
    """

    step: int | None = None
    metrics: Mapping[str, float] = MappingProxyType({})
    total: int | None = None


def read_values(line: str) -> Values:
    """Read the metrics of one line, or of one state of a line that is drawn again and again."""
    text = line.strip()
    if not text or len(text) > LINE_CHARS or not any(mark in text for mark in "{:= "):
        return Values()
    before = _BEFORE_MAPPING.match(text)
    if before is not None:
        text = text[before.end() :]
    if text.startswith("{"):
        numbers = honest_numbers(text)
        step = next((numbers[name] for name in STEP_NAMES if name in numbers), None)
        return Values(to_count(step), _metrics(numbers))
    bar = _BAR.search(text)
    if bar is not None:
        return Values(to_count(bar["step"]), total=to_count(bar["total"]))
    found = next((found for step in _STEPS if (found := step.search(text))), None)
    if found is None:
        return Values()
    return Values(to_count(found["step"]), _metrics(_pairs(text)))


def honest_numbers(line: str) -> dict[str, float]:
    """Read the numbers of a mapping, with the loss as it was before Transformers replaced it."""
    numbers = read_numbers(line)
    if "loss" in numbers:
        not_finite = [name for name, value in numbers.items() if not math.isfinite(value)]
        numbers["loss"] = raw_loss(numbers["loss"], not_finite)
    return numbers


def _pairs(text: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for pattern in (_PAIR, _WORD_PAIR):
        for pair in pattern.finditer(text):
            value = to_number(pair["value"])
            if value is not None:
                numbers.setdefault(pair["name"].strip().replace(" ", "_"), value)
    return numbers


def _metrics(numbers: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if name.lower() not in _NOT_METRICS}
