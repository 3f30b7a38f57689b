"""Evaluate conditions such as ``${evaluate.metrics.exact_match} > 0.8``, never as Python code.

A comparison with a number that is not finite is unknown (held as NaN), and so is its negation;
`and` and `or` follow three-valued logic. A condition holds only if it is true.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from flows.core.errors import InvalidConfig
from flows.core.pipelines.references import Lookup, Reference, references_in

_LIMIT: Final = 1000
_REFERENCE: Final = re.compile(r"\$\{[^{}]*\}")
_NAME: Final = "reference_{}_"
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, among: item in among,
    ast.NotIn: lambda item, among: item not in among,
}
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: lambda one, other: one + other,
    ast.Sub: lambda one, other: one - other,
    ast.Mult: lambda one, other: one * other,
    ast.Div: lambda one, other: one / other,
}
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "none": None}


def _truth(value: object) -> bool | None:
    """Whether a value counts as true; None for a number that is not finite."""
    return None if _is_unknown(value) else bool(value)


def _is_unknown(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _all(values: Iterable[object]) -> bool | float:
    """False if one is; a NaN if one is neither true nor false."""
    result: bool | float = True
    for value in values:
        truth = _truth(value)
        if truth is False:
            return False
        if truth is None:
            result = math.nan
    return result


def _any(values: Iterable[object]) -> bool | float:
    """True if one is; a NaN if one is neither true nor false."""
    return _not(_all(_not(value) for value in values))


def _not(value: object) -> bool | float:
    truth = _truth(value)
    return math.nan if truth is None else not truth


def _best(choose: Callable[..., Any]) -> Callable[..., Any]:
    """Make `min` or `max` prefer finite numbers."""

    def best(*values: Any) -> Any:
        among = list(values[0] if len(values) == 1 else values)
        return choose([one for one in among if not _is_unknown(one)] or among)

    return best


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "min": _best(min),
    "max": _best(max),
    "sum": sum,
    "len": len,
    "abs": abs,
    "any": _any,
    "all": _all,
}


class Condition:
    """A condition, ready for evaluation.

    Comparisons, ``and or not``, ``in``, plus, minus, times and divided by, numbers, texts in
    quotes, ``true false none``, and the functions ``min max sum len abs any all``.

    Args:
        text: The condition.

    Raises:
        InvalidConfig: The text is not a condition.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.references: list[Reference] = references_in(text)
        if len(text) > _LIMIT:
            raise _invalid(text[:60] + "...", f"is longer than {_LIMIT} characters")
        count = iter(range(len(self.references)))
        named = _REFERENCE.sub(lambda _: _NAME.format(next(count)), text)
        try:
            self._tree = ast.parse(named.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _invalid(text, "cannot be read") from error
        self._names = {_NAME.format(i): one for i, one in enumerate(self.references)}
        self._check_syntax()

    def holds(self, lookup: Lookup) -> bool:
        """Evaluate the condition; references that do not matter are not looked up.

        Raises:
            InvalidConfig: It cannot be evaluated, such as a comparison of a text with a number.
        """
        try:
            return _truth(self._value(self._tree, lookup)) is True
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InvalidConfig(
                f"The condition {self.text!r} cannot be evaluated: {error}",
                "Compare numbers with numbers and texts with texts",
            ) from error

    def _check_syntax(self) -> None:
        """Refuse all syntax that conditions do not support."""
        for node in ast.walk(self._tree):
            match node:
                case ast.Name(id=name):
                    self._check_word(name)
                case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
                    pass
                case ast.Constant(value=None | int() | float() | str()):  # bools are integers
                    pass
                case ast.BoolOp() | ast.Compare() | ast.List() | ast.Tuple() | ast.Load():
                    pass
                case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
                    pass
                case ast.UnaryOp(op=ast.Not() | ast.USub()):
                    pass
                case ast.cmpop() if type(node) not in _COMPARE:
                    raise _invalid(self.text, "has an unsupported comparison")
                case ast.boolop() | ast.cmpop() | ast.operator() | ast.unaryop():
                    pass
                case _:
                    raise _invalid(self.text, f"contains an unsupported {type(node).__name__}")

    def _check_word(self, name: str) -> None:
        if name not in {*self._names, *_FUNCTIONS, *_WORDS}:
            raise _invalid(self.text, f"has the unknown word {name!r}; put texts in quotes")

    def _value(self, node: ast.expr, lookup: Lookup) -> Any:
        match node:
            case ast.Constant(value=constant):
                value = constant
            case ast.Name(id=name):
                value = lookup(self._names[name]) if name in self._names else _word(name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                value = [self._value(item, lookup) for item in items]
            case ast.BoolOp(op=op, values=parts):
                decide = _all if isinstance(op, ast.And) else _any
                value = decide(self._value(part, lookup) for part in parts)
            case ast.UnaryOp(op=op, operand=operand):
                inner = self._value(operand, lookup)
                value = _not(inner) if isinstance(op, ast.Not) else -_number(inner)
            case ast.BinOp(left=left, op=op, right=right):
                numbers = (_number(self._value(side, lookup)) for side in (left, right))
                value = _ARITHMETIC[type(op)](*numbers)
            case ast.Call(func=ast.Name(id=name), args=args):
                value = _FUNCTIONS[name](*(self._value(arg, lookup) for arg in args))
            case _:
                value = self._compare(cast(ast.Compare, node), lookup)
        return value

    def _compare(self, node: ast.Compare, lookup: Lookup) -> bool | float:
        values = [self._value(one, lookup) for one in (node.left, *node.comparators)]
        pairs = zip(values, node.ops, values[1:], strict=False)
        return _all(_compare_two(left, op, right) for left, op, right in pairs)


def _compare_two(left: Any, op: ast.cmpop, right: Any) -> bool | float:
    if _is_unknown(left) or _is_unknown(right):
        return math.nan
    return _COMPARE[type(op)](left, right)


def _word(name: str) -> bool | None:
    try:
        return _WORDS[name]
    except KeyError as error:
        raise ValueError(f"{name} is a function") from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _invalid(text: str, why: str) -> InvalidConfig:
    return InvalidConfig(
        f"The condition {text!r} {why}",
        "Write it as in ${evaluate.metrics.exact_match} > 0.8 and ${train.state} == 'succeeded'",
    )
