"""JSON schemas as tools show them, without parts that say nothing to a client."""

from typing import Any, Final, cast

_NULL: Final = {"type": "null"}
_NOT_FINITE: Final = {"enum": ["nan", "inf", "-inf"]}
_EMPTY: Final[tuple[object, ...]] = (None, "", [], {})
_NAMES: Final = ("properties", "$defs")
"""Under these, keys are names and no keywords."""


def of_arguments(schema: object) -> object:
    """Shorten the schema of arguments: a model reads all of it for every tool.

    Drop titles, the defaults null, false, "", [] and {}, and null as a value of an optional
    argument: it may be left out, and null is accepted all the same. So is the bound that a text is
    not empty left out, which holds all the same.
    Write definitions where they are used, as some clients need.
    """
    definitions = cast("dict[str, Any]", schema).get("$defs", {})
    return _of_arguments(schema, cast("dict[str, Any]", definitions))


def _of_arguments(schema: object, definitions: dict[str, Any]) -> object:
    if isinstance(schema, list):
        return [_of_arguments(item, definitions) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    entries = cast("dict[str, Any]", schema)
    if "$ref" in entries:
        definition = _without(definitions[entries["$ref"].rpartition("/")[2]], "description")
        entries = {**definition, **_without(entries, "$ref")}
    short: dict[str, Any] = {}
    for key, value in entries.items():
        if key == "properties":
            short[key] = {name: _of_argument(part, definitions) for name, part in value.items()}
        elif not (
            key in ("title", "$defs")
            or (key == "default" and (value in _EMPTY or value is False))
            or (key == "additionalProperties" and (value is True or _takes_any_value(value)))
            or (key == "minLength" and value == 1)
        ):
            short[key] = _of_arguments(value, definitions)
    return _nullable(_scalar(short))


def _of_argument(schema: dict[str, Any], definitions: dict[str, Any]) -> object:
    short = _of_arguments(schema, definitions)
    return _without_null(short) if _is_optional(schema) else short


def _takes_any_value(schema: object) -> bool:
    """Whether a schema is that of a value of YAML: null, a scalar or a list of them."""
    return isinstance(schema, dict) and len(cast("dict[str, Any]", schema).get("anyOf", [])) >= 5


def _is_optional(argument: dict[str, Any]) -> bool:
    return argument.get("default", argument) is None


def _without_null(argument: object) -> object:
    """Leave null out of the types, or out of the choices, of an argument."""
    schema = cast("dict[str, Any]", argument)
    match schema.get("type"):
        case [kind, "null"]:
            return {**schema, "type": kind}
        case [*kinds, "null"]:
            return {**schema, "type": kinds}
        case _:
            pass
    choices = [choice for choice in schema.get("anyOf", []) if choice != _NULL]
    if len(choices) != 1:
        return {**schema, "anyOf": choices} if choices else schema
    return {**choices[0], **_without(schema, "anyOf")}


def of_results(schema: object) -> object:
    """Shorten the schema of results: clients fetch it for every tool.

    Drop titles, descriptions, defaults (every field is present) and the format of times. The
    docstrings of the results' models describe the fields.
    """
    root = cast("dict[str, Any]", _of_results(_drop_descriptions(schema)))
    return {**root, "additionalProperties": False}


def _of_results(schema: object) -> object:
    if isinstance(schema, list):
        return [_of_results(item) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    short: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", schema).items():
        if key in _NAMES:
            short[key] = {name: _of_results(part) for name, part in value.items()}
        elif key not in ("title", "default", "format") and (key, value) != (
            "additionalProperties",
            False,
        ):
            short[key] = _of_results(value)
    return _nullable(_number(short))


def _number(schema: dict[str, Any]) -> dict[str, Any]:
    """``{"type": ["number", "string"]}`` for a number that may be "nan", "inf" or "-inf"."""
    choices = cast("list[object]", schema.get("anyOf", []))
    if _NOT_FINITE not in choices:
        return schema
    types = ["number", "string", *(["null"] if _NULL in choices else [])]
    return {**_without(schema, "anyOf"), "type": types}


def _drop_descriptions(schema: object) -> object:
    if isinstance(schema, list):
        return [_drop_descriptions(item) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _drop_descriptions(part) for name, part in value.items()}
        if key in _NAMES
        else _drop_descriptions(value)
        for key, value in cast("dict[str, Any]", schema).items()
        if not (key == "description" and isinstance(value, str))
    }


def _without(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != keyword}


def _scalar(schema: dict[str, Any]) -> dict[str, Any]:
    """``{"type": ["string", "number", ...]}`` for a choice of three or more types.

    Bounds stay, as each is of one type; a word that is allowed bounds the length of a text.
    """
    choices = cast("list[dict[str, Any]]", schema.get("anyOf", []))
    types = [choice.get("type") for choice in choices]
    if len(types) < 3 or not all(isinstance(kind, str) for kind in types):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    for choice in choices:
        rest |= {"maxLength" if key == "const" else key: len(value) if key == "const" else value
                 for key, value in choice.items() if key != "type"}  # fmt: skip
    return {**rest, "type": [kind for kind in types if kind != "integer" or "number" not in types]}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """``{"type": ["string", "null"]}`` for the long form that pydantic writes."""
    choices = schema.get("anyOf")
    if not (isinstance(choices, list) and _NULL in choices):
        return schema
    others = [choice for choice in cast("list[dict[str, Any]]", choices) if choice != _NULL]
    if len(others) != 1 or "enum" in others[0] or not isinstance(others[0].get("type"), str):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**others[0], **rest, "type": [others[0]["type"], "null"]}
