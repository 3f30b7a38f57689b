"""YAML as Oumi reads it: floats such as 1e-4, no dates, no key twice."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import yaml
from yaml.constructor import ConstructorError

from flows.errors import InvalidConfig

if TYPE_CHECKING or not yaml.__with_libyaml__:
    from yaml import SafeDumper, SafeLoader
else:
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader

_MAX_DEPTH: Final = 64
_NEVER_FOLD: Final = 2**31 - 1
_REFERENCE: Final = re.compile(r"(\\*)\$\{")
_UNESCAPED: Final = re.compile(r"(?<!\\)\$\{")


def parse_yaml(text: str, name: str) -> object:
    """The value of a YAML text; `name` says in errors what the text is.

    Raises:
        InvalidConfig: The text is not YAML, nests too deeply or gives a key twice; the message
            names line and column.
    """
    try:
        _refuse_depth(text)
        return cast(object, yaml.load(text, Loader=_Loader))  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        raise _invalid(name, error.problem or "bad YAML", error.problem_mark) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(name, str(error).partition("\n")[0], None) from error


def compose_yaml(text: str) -> "yaml.Node | None":
    """The nodes of a YAML text that `parse_yaml` reads; None if it is empty."""
    compose = cast("Callable[..., yaml.Node | None]", yaml.compose)  # pyright: ignore[reportUnknownMemberType]
    return compose(text, Loader=_Loader)


def dump_yaml(data: object) -> str:
    """`data` as YAML text in its own order, multi-line strings as blocks."""
    return _dump(data, _Dumper)


def quote(text: str) -> str:
    """`text` as one double-quoted YAML scalar on one line."""
    return _dump(text, SafeDumper, default_style='"').removesuffix("\n")


def reads_as(text: str, value: object) -> bool:
    """Whether `text` is YAML for `value`."""
    try:
        return parse_yaml(text, "text") == value
    except InvalidConfig:
        return False


def escape_interpolation(text: str) -> str:
    """`text` so that OmegaConf, reading it, takes no ``${...}`` in it for a reference."""
    return _REFERENCE.sub(r"\1\1\\${", text)


def escape_references(yaml_text: str) -> str:
    """A YAML text in which OmegaConf takes no ``${...}`` for a reference to another key.

    ``JobConfig.from_str`` of Oumi 0.9 resolves them, so that a script's ``${HOME}`` fails.
    """
    return dump_yaml(_escape_all(parse_yaml(yaml_text, "the job config")))


def check_oumi_reads(text: str, name: str) -> None:
    """Refuses a ``${...}`` where Oumi cannot read one.

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
    return InvalidConfig(f"{name} is not valid YAML{where}: {problem}", "Correct it there")


def _refuse_depth(text: str) -> None:
    """Raises on deep nesting, which overruns the C stack of PyYAML 6.0's libyaml binding."""
    depth = 0
    parse = cast("Callable[..., Iterator[yaml.Event]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
    for event in parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ConstructorError(
                    None, None, f"nested more than {_MAX_DEPTH} levels deep", event.start_mark
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Loader(SafeLoader):
    """Oumi 0.9 reads YAML through OmegaConf, whose loader differs from PyYAML's in these points."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Refuses a key that is given twice."""
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
