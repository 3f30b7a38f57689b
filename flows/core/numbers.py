"""Read, compare and write the numbers that jobs print.

Numbers that are not finite are valid here. JSON has none, so they are written as ``"nan"``,
``"inf"`` or ``"-inf"``. Reading is fast for any text and raises nothing.
"""

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, cast

from pydantic import AfterValidator, PlainSerializer, WithJsonSchema

COUNT_MAX: Final = 2**53
"""Above this a float does not hold every whole number; no count of steps comes near it."""

LINE_CHARS: Final = 10_000
_NAME_CHARS: Final = 200
_NUMBERS_MAX: Final = 2_000
_DEPTH_MAX: Final = 20
_TEXT_CHARS: Final = 100
"""Longest text that is read as a number."""

_NUMERAL: Final = re.compile(
    r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:inf(?:inity)?|nan)", re.ASCII
)
_NOT_FINITE: Final[Mapping[str, float]] = {"nan": math.nan, "NaN": math.nan, "inf": math.inf}


def to_json(value: float) -> float | str:
    """A number in a form that JSON can hold."""
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def to_number(value: object) -> float | None:
    """Convert a value of JSON or Python, or its text, to a number; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        value = value.strip().lower()
        if len(value) > _TEXT_CHARS or not _NUMERAL.fullmatch(value):
            return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf if cast(int, value) > 0 else -math.inf
    # Use one NaN object, so that values that hold it compare as equal.
    return math.nan if math.isnan(number) else number


def to_count(value: object) -> int | None:
    """Convert a value to a number of steps; None if it is not one."""
    number = to_number(value)
    if number is None or not 0 <= number <= COUNT_MAX:
        return None
    return int(number)


def read_numbers(line: str) -> dict[str, float]:
    """Read the numbers of a line that is a mapping, in JSON or as Python prints it, by dotted key.

    Python also prints ``{'loss': nan}`` and ``{'loss': np.float64(0.5)}``. The result is empty for
    a line that is not a mapping, is longer than `LINE_CHARS` or is deeply nested.
    """
    line = line.strip()
    if not (line.startswith("{") and line.endswith("}")) or len(line) > LINE_CHARS:
        return {}
    if _is_deep(line):
        return {}
    try:
        # Not int, which refuses more than 4,300 digits (Python 3.11).
        content = cast(object, json.loads(line, parse_int=float))
    except ValueError:
        content = _parse_python(line)
    return flat_numbers(content)


def flat_numbers(content: object) -> dict[str, float]:
    """Read the numbers of a mapping from JSON, by dotted key; empty for any other value."""
    found: dict[str, float] = {}
    for name, value in _leaves(content, prefix="", depth=0):
        number = to_number(value)
        if number is not None:
            found[name] = number
            if len(found) >= _NUMBERS_MAX:
                break
    return found


def _leaves(content: object, *, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    if not isinstance(content, dict) or depth > _DEPTH_MAX:
        return
    for key, value in cast("Mapping[object, object]", content).items():
        if not isinstance(key, str) or len(prefix) + len(key) > _NAME_CHARS:
            continue
        if isinstance(value, dict):
            yield from _leaves(cast(object, value), prefix=f"{prefix}{key}.", depth=depth + 1)
        else:
            yield f"{prefix}{key}", value


def _is_deep(text: str) -> bool:
    """Whether brackets in a text are nested so deeply that reading it could take long."""
    depth = 0
    for bracket in re.findall(r"[\[\](){}]", text):
        depth += 1 if bracket in "[({" else -1
        if depth > _DEPTH_MAX:
            return True
    return False


def _parse_python(text: str) -> object:
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError, SystemError):
        return None  # SystemError: "AST constructor recursion depth mismatch" (Python 3.11)
    return _literal(tree)


def _literal(node: ast.expr) -> object:
    """The value of an expression as far as it holds numbers, without executing it."""
    match node:
        case ast.Dict(keys=keys, values=values):
            pairs = [(_text(key), value) for key, value in zip(keys, values, strict=True)]
            return {key: _literal(value) for key, value in pairs if key is not None}
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() | ast.Name() as operand):
            number = to_number(_literal(operand))
            return None if number is None else -number
        case ast.Name(id=name):
            return _NOT_FINITE.get(name)
        # numpy 2 prints np.float64(0.5), torch tensor(0.5, device='cuda:0').
        case ast.Call(args=[argument, *_]):
            is_plain = isinstance(argument, ast.Constant | ast.UnaryOp | ast.Name)
            return _literal(argument) if is_plain else None
        case _:
            return None


def _text(node: ast.expr | None) -> str | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else None


def _one_nan(value: float) -> float:
    return math.nan if math.isnan(value) else value


Number = Annotated[
    float,
    AfterValidator(_one_nan),
    PlainSerializer(to_json, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]}),
]
"""A float that may be not finite, in values that become JSON."""
