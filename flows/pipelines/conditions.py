"""Conditions: ``${evaluate.metrics.exact_match} > 0.8``. Nothing of them is executed as Python."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from flows.errors import InvalidConfig
from flows.pipelines.references import Lookup, Reference, references_in

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
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "min": min,
    "max": max,
    "sum": sum,
    "len": len,
    "abs": abs,
    "any": any,
    "all": all,
}


class Condition:
    """A condition that was read and can be judged.

    Comparisons, ``and or not``, ``in``, plus, minus, times and divided by, numbers, texts in
    quotes, ``true false none``, and the functions ``min max sum len abs any all``.

    Args:
        text: The condition.

    Raises:
        InvalidConfig: It is not one.
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
        self._names_known()

    def holds(self, lookup: Lookup) -> bool:
        """Whether the condition holds; a reference that does not matter is not looked up.

        Raises:
            InvalidConfig: It cannot be judged, such as when it compares a text with a number.
        """
        try:
            return bool(self._value(self._tree, lookup))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InvalidConfig(
                f"The condition {self.text!r} cannot be judged: {error}",
                "Compare numbers with numbers and texts with texts",
            ) from error

    def _names_known(self) -> None:
        """Refuse everything that is not one of the few things a condition is made of."""
        for node in ast.walk(self._tree):
            match node:
                case ast.Name(id=name):
                    known = {*self._names, *_FUNCTIONS, *_WORDS}
                    if name not in known:
                        raise _invalid(
                            self.text, f"has the unknown word {name!r}; put texts in quotes"
                        )
                case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
                    pass
                case ast.Constant(value=value) if value is None or isinstance(
                    value, bool | int | float | str
                ):
                    pass
                case ast.BoolOp() | ast.Compare() | ast.List() | ast.Tuple() | ast.Load():
                    pass
                case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
                    pass
                case ast.UnaryOp(op=ast.Not() | ast.USub()):
                    pass
                case ast.boolop() | ast.cmpop() | ast.operator() | ast.unaryop():
                    if isinstance(node, ast.cmpop) and type(node) not in _COMPARE:
                        raise _invalid(self.text, "has a comparison that is not known here")
                case _:
                    raise _invalid(self.text, f"has a {type(node).__name__} in it")

    def _value(self, node: ast.expr, lookup: Lookup) -> Any:
        match node:
            case ast.Constant(value=constant):
                value = constant
            case ast.Name(id=name):
                value = lookup(self._names[name]) if name in self._names else _word(name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                value = [self._value(item, lookup) for item in items]
            case ast.BoolOp(op=op, values=parts):
                decide = all if isinstance(op, ast.And) else any
                value = decide(self._value(part, lookup) for part in parts)
            case ast.UnaryOp(op=op, operand=operand):
                inner = self._value(operand, lookup)
                value = not inner if isinstance(op, ast.Not) else -_number(inner)
            case ast.BinOp(left=left, op=op, right=right):
                numbers = (_number(self._value(side, lookup)) for side in (left, right))
                value = _ARITHMETIC[type(op)](*numbers)
            case ast.Call(func=ast.Name(id=name), args=args):
                value = _FUNCTIONS[name](*(self._value(arg, lookup) for arg in args))
            case _:
                value = self._compare(cast(ast.Compare, node), lookup)
        return value

    def _compare(self, node: ast.Compare, lookup: Lookup) -> bool:
        left = self._value(node.left, lookup)
        for op, other in zip(node.ops, node.comparators, strict=True):
            right = self._value(other, lookup)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True


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
