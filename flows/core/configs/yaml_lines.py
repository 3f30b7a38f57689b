"""Find the place of each key of a config in its YAML text."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import yaml

from flows.core.configs.yaml_text import compose_yaml

_MERGE = "tag:yaml.org,2002:merge"


class TextPlace(NamedTuple):
    """A place in a text; both count from 1."""

    line: int
    column: int


class Places:
    """The places of all keys of a YAML text, under the dotted paths that the checks use.

    Args:
        text: YAML that was read before, so that its size is known to be limited.
    """

    def __init__(self, text: str) -> None:
        node = compose_yaml(text)
        self._places = dict(_reverse(_walk(node, ""))) if node is not None else {}
        self._blocks = dict(_blocks(node))
        self._lines = text.splitlines()
        self._top = _place(node) if node is not None else TextPlace(1, 1)

    def of(self, key: str, *, line: int | None = None) -> TextPlace:
        """Find the place of `key`, or of the nearest key around it.

        Args:
            key: The key.
            line: The index of a line of its value, a text of several lines.
        """
        first = self._blocks.get(key)
        if line is not None and first is not None and first + line < len(self._lines):
            text = self._lines[first + line]
            return TextPlace(first + line + 1, len(text) - len(text.lstrip()) + 1)
        while key:
            if key in self._places:
                return self._places[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self._top


def _blocks(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    """The keys at the top whose value is a literal block, and the index of its first line."""
    if isinstance(node, yaml.MappingNode):
        for name, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if isinstance(value, yaml.ScalarNode) and value.style == "|":
                yield str(name.value), cast("yaml.Mark", value.start_mark).line + 1


def _walk(node: yaml.Node, key: str) -> Iterator[tuple[str, TextPlace]]:
    if isinstance(node, yaml.MappingNode):
        prefix = f"{key}." if key else ""
        merged: list[yaml.Node] = []
        for name, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if name.tag == _MERGE:
                merged.append(value)
            elif isinstance(name, yaml.ScalarNode):
                path = f"{prefix}{name.value}"
                yield path, _place(name)
                yield from _walk(value, path)
        for value in merged:
            yield from _walk_merged(value, key)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(cast("list[yaml.Node]", node.value)):
            path = f"{key}[{index}]"
            yield path, _place(item)
            yield from _walk(item, path)


def _walk_merged(node: yaml.Node, key: str) -> Iterator[tuple[str, TextPlace]]:
    if isinstance(node, yaml.SequenceNode):
        for item in cast("list[yaml.Node]", node.value):
            yield from _walk(item, key)
    else:
        yield from _walk(node, key)


def _reverse(pairs: Iterator[tuple[str, TextPlace]]) -> list[tuple[str, TextPlace]]:
    """Reverse pairs, so that a key's own place comes after a merged one and wins."""
    return list(pairs)[::-1]


def _place(node: yaml.Node) -> TextPlace:
    mark = cast("yaml.Mark", node.start_mark)
    return TextPlace(mark.line + 1, mark.column + 1)
