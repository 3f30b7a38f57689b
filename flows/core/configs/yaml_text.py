"""Read and write YAML as Oumi does: floats such as 1e-4, no dates, no duplicate keys."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import yaml
from yaml.constructor import ConstructorError

from flows.core.errors import InvalidConfig

if TYPE_CHECKING or not yaml.__with_libyaml__:
    from yaml import SafeDumper, SafeLoader
else:
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader

_MAX_DEPTH: Final = 64
_TOO_DEEP: Final = f"nested more than {_MAX_DEPTH} levels deep"
_TOO_DEEP_FOR_LIBYAML: Final = "maximum nesting depth"
"""What libyaml says of 1,000 levels, before it hands out the first event (PyYAML 6.0.4)."""
_MAX_VALUES: Final = 100_000
_VALUE_CHARACTERS: Final = 100
MAX_INTEGER_BITS: Final = 64
"""Neither Prefect's API nor torch accepts larger ones, and the largest have no decimal text."""
_NEVER_FOLD: Final = 2**31 - 1
_REFERENCE: Final = re.compile(r"(\\*)\$\{")
_UNESCAPED: Final = re.compile(r"(?<!\\)\$\{")


def parse_yaml(text: str, name: str) -> object:
    """Parse a YAML text; errors call it `name`.

    Raises:
        InvalidConfig: The text is not YAML, nests too deeply, expands to too much, gives a key
            twice or has a value that no config has; the message names line and column.
    """
    try:
        check_yaml_size(text)
        return cast(object, yaml.load(text, Loader=_Loader))  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        problem = error.problem or "bad YAML"
        if _TOO_DEEP_FOR_LIBYAML in problem:
            problem = _TOO_DEEP
        raise _invalid(name, problem, error.problem_mark) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(name, str(error).partition("\n")[0], None) from error


def mapping_of_yaml(job_config: str) -> dict[str, Any]:
    """Parse a job config's text; no keys if it is empty.

    Raises:
        InvalidConfig: As `parse_yaml`.
    """
    return cast("dict[str, Any]", parse_yaml(job_config, "the job config") or {})


def compose_yaml(text: str) -> "yaml.Node | None":
    """Compose the nodes of a YAML text that `parse_yaml` reads; None if it is empty."""
    compose = cast("Callable[..., yaml.Node | None]", yaml.compose)  # pyright: ignore[reportUnknownMemberType]
    return compose(text, Loader=_Loader)


def dump_yaml(data: object) -> str:
    """Write `data` as YAML text in its own order, with multi-line strings as blocks."""
    return _dump(data, _Dumper)


def quote(text: str) -> str:
    """Write `text` as one double-quoted YAML scalar on one line."""
    return _dump(text, SafeDumper, default_style='"').removesuffix("\n")


def reads_as(text: str, value: object) -> bool:
    """Whether `text` is YAML for `value`."""
    try:
        return parse_yaml(text, "text") == value
    except InvalidConfig:
        return False


def escape_interpolation(text: str) -> str:
    """Escape `text`, so that OmegaConf reads no ``${...}`` in it as a reference."""
    return _REFERENCE.sub(r"\1\1\\${", text)


def escape_references(yaml_text: str) -> str:
    """Escape a YAML text, so that OmegaConf reads no ``${...}`` in it as a reference.

    ``JobConfig.from_str`` of Oumi 0.9 resolves them, so that a script's ``${HOME}`` fails.
    """
    return dump_yaml(_escape_all(parse_yaml(yaml_text, "the job config")))


def check_oumi_reads(text: str, name: str) -> None:
    """Refuse a ``${...}`` where Oumi cannot read one.

    Oumi 0.9 puts a backslash before each, which double quotes do not allow.

    Raises:
        InvalidConfig: With line and column.
    """
    if "${" not in text:
        return
    try:
        parse_yaml(_UNESCAPED.sub(r"\\${", text), name)
    except InvalidConfig as error:
        raise InvalidConfig(
            f"{error.what} (Oumi cannot read ${{...}} between double quotes)",
            "Put it between single quotes",
        ) from error


def _escape_all(value: object) -> object:
    match value:
        case str():
            return escape_interpolation(value)
        case list():
            return [_escape_all(item) for item in cast("list[object]", value)]
        case dict():
            items = cast("dict[object, object]", value).items()
            return {key: _escape_all(item) for key, item in items}
        case _:
            return value


def _dump(data: object, dumper: "type[SafeDumper]", default_style: str | None = None) -> str:
    return yaml.dump(
        data,
        Dumper=dumper,
        default_style=default_style,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=_NEVER_FOLD,
    )


def _invalid(name: str, problem: str, mark: "yaml.Mark | None") -> InvalidConfig:
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return InvalidConfig(f"{name} is not valid YAML{where}: {problem}", "Correct the YAML there")


def check_yaml_size(text: str) -> None:
    """Refuse a text with too many or too deep values, counting aliases and merges in full.

    This runs before anything is built: 26 lines of ``&b {<<: [*a, *a]}`` would be 67 million keys,
    and deep nesting overruns the C stack of PyYAML 6.0's libyaml binding.

    Raises:
        yaml.YAMLError: It is not YAML, or too large; names line and column where that is known.
        ValueError: It has a character that YAML cannot have.
    """
    parse = cast("Callable[..., Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
    size = _Size()
    for event in parse(text, Loader=SafeLoader):
        size.count(event)
        if problem := size.problem():
            raise ConstructorError(None, None, problem, event.start_mark)


class _Size:
    """Counts the values that a document expands to, and their depth."""

    def __init__(self) -> None:
        self._total = 0
        self._deepest = 0
        self._open: list[tuple[str | None, int, int]] = []
        self._anchored: dict[str, tuple[int, int]] = {}
        self._is_endless = False

    def count(self, event: yaml.Event) -> None:
        """Count what the next event of a parser adds."""
        if isinstance(event, yaml.CollectionStartEvent):
            self.open(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.close()
        elif isinstance(event, yaml.ScalarEvent):
            self.add(event.anchor, cast(str, event.value))
        elif isinstance(event, yaml.AliasEvent):
            self.repeat(event.anchor)
        else:
            self.begin_document(event)

    def open(self, anchor: str | None) -> None:
        """Begin a collection."""
        if anchor:
            self._anchored.pop(anchor, None)
        self._open.append((anchor, self._total, len(self._open) + 1))
        self._count(1, height=0)

    def close(self) -> None:
        """End the innermost collection."""
        anchor, before, deepest = self._open.pop()
        if anchor:
            self._anchored[anchor] = (self._total - before, deepest - len(self._open))
        if self._open:
            outer, start, depth = self._open[-1]
            self._open[-1] = (outer, start, max(depth, deepest))

    def add(self, anchor: str | None, text: str) -> None:
        """Count a key or a single value; a long text counts as several."""
        values = 1 + len(text) // _VALUE_CHARACTERS
        if anchor:
            self._anchored[anchor] = (values, 0)
        self._count(values, height=0)

    def repeat(self, anchor: str) -> None:
        """Count the value of an anchor again."""
        if anchor in self._anchored:
            values, height = self._anchored[anchor]
            self._count(values, height=height)
        else:
            # The alias is inside its anchor or unknown; the loader reports that.
            self._is_endless = any(name == anchor for name, _, _ in self._open)

    def begin_document(self, event: yaml.Event) -> None:
        """Forget anchors: they are valid in one document only."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchored.clear()

    def problem(self) -> str:
        """Say which limit is exceeded; empty if none is."""
        if self._total > _MAX_VALUES or self._is_endless:
            return f"it expands to more than {_MAX_VALUES:,} values; use fewer YAML aliases"
        return _TOO_DEEP if self._deepest > _MAX_DEPTH else ""

    def _count(self, values: int, *, height: int) -> None:
        self._total += values
        depth = len(self._open) + height
        if self._open:
            anchor, start, deepest = self._open[-1]
            self._open[-1] = (anchor, start, max(deepest, depth))
        self._deepest = max(self._deepest, depth)


class _Loader(SafeLoader):
    """Oumi 0.9 reads YAML through OmegaConf, whose loader differs from PyYAML's in these points."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Refuse a key that is given twice."""
        seen: set[tuple[str, str]] = set()
        for key_node, _ in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if isinstance(key_node, yaml.ScalarNode):
                key = (key_node.tag, cast(str, key_node.value))
                if key in seen:
                    raise ConstructorError(
                        None, None, f"the key {key[1]!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _construct_integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if value.bit_length() > MAX_INTEGER_BITS:
        raise ConstructorError(None, None, "this integer is too large", node.start_mark)
    return value


def _refuse(loader: _Loader, node: yaml.Node) -> None:
    raise ConstructorError(None, None, f"no config has values of type {node.tag}", node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_integer)
for _name in ("binary", "omap", "pairs", "set", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _refuse)
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in resolvers if not pair[0].endswith(":timestamp")]
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(SafeDumper):
    """Writes multi-line strings as blocks and repeats shared values instead of aliasing them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_str(dumper: SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar(  # pyright: ignore[reportUnknownMemberType]
        "tag:yaml.org,2002:str", text, style=style
    )


_Dumper.add_representer(str, _represent_str)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+\Z"),
        list("-+0123456789"),
    )
