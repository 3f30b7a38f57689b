"""Conditions to wait for, such as ``step >= 100``, ``eval_loss < 0.5`` and ``health bad``."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flows.core.errors import InvalidArgument
from flows.core.models import JobStatus
from flows.core.numbers import to_number
from flows.core.states import Health, JobState

_FORM: Final = re.compile(
    r"\s*(?P<name>[A-Za-z_][\w./-]*)(?:\s*(?P<compare><=|>=|==|!=|<|>)\s*|\s+)"
    r"(?P<wanted>[^\s<>=!]+)\s*"
)
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "state": frozenset(JobState),
    "health": frozenset(Health),
}
_NEXT: Final = "Write it as step >= 100, eval_loss < 0.5, health bad or state running"


@dataclass(frozen=True)
class WaitCondition:
    """A comparison of one value of a job.

    Attributes:
        name: step, loss, state, health, or the name of a metric.
        compare: A comparison.
        wanted: What the value is compared with.
    """

    name: str
    compare: str
    wanted: float | str

    @classmethod
    def read(cls, text: str) -> "WaitCondition":
        """Read a condition.

        Raises:
            InvalidArgument: It is none.
        """
        matched = _FORM.fullmatch(text)
        if matched is None:
            raise InvalidArgument(f"condition {text[:80]!r} cannot be read", _NEXT)
        name, compare, wanted = matched["name"], matched["compare"] or "==", matched["wanted"]
        if name in _WORDS:
            return cls(name, compare, _read_word(name, compare, wanted.strip("'\"").lower()))
        number = to_number(wanted)
        if number is None:
            raise InvalidArgument(f"condition {text[:80]!r} compares with no number", _NEXT)
        return cls(name, compare, number)

    @property
    def is_of_metrics(self) -> bool:
        """Whether its value is in no status, but among the metrics of the job."""
        return self.name not in ("step", "loss", *_WORDS)

    def value_of(self, status: JobStatus) -> float | str | None:
        """Find the value in a status; None: it is not known yet."""
        match self.name:
            case "state":
                return status.state.value
            case "health":
                return status.health.value
            case "step":
                return status.progress.step
            case "loss":
                return status.progress.loss
            case _:
                return None

    def holds(self, value: float | str | None) -> bool:
        """Whether the condition holds; never for a value that is unknown or no number."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return False
        return _COMPARE[self.compare](value, self.wanted)


def _read_word(name: str, compare: str, wanted: str) -> str:
    if compare not in ("==", "!="):
        raise InvalidArgument(f"{name} cannot be {compare} a word", _NEXT)
    if wanted not in _WORDS[name]:
        raise InvalidArgument(
            f"{wanted!r} is no {name}", f"Use one of {', '.join(sorted(_WORDS[name]))}"
        )
    return wanted
