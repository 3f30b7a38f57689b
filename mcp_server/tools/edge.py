"""How a method becomes a tool: strict arguments, structured results, errors of one line."""

import base64
import difflib
import json
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

import pydantic_core
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import (
    CallToolResult,
    ContentBlock,
    ImageContent,
    InputRequiredResult,
    TextContent,
    ToolAnnotations,
)
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from flows.core.configs.yaml_text import MAX_INTEGER_BITS
from flows.core.errors import ErrorCode, InternalError, InvalidArgument, OumiFlowsError, ReadOnly
from flows.core.redaction import own_redactor
from mcp_server.inert_text import inert_json, one_line
from mcp_server.services.illustrated import Illustrated
from mcp_server.tools.arguments import one_by_one
from mcp_server.tools.schemas import of_arguments, of_results

Changes = Callable[[dict[str, Any]], bool]
"""Whether a call with these (valid) arguments changes anything."""

_PROBLEMS_SHOWN: Final = 3


def always(_: dict[str, Any]) -> bool:
    """Every call changes something."""
    return True


def unless_dry_run(arguments: dict[str, Any]) -> bool:
    """A call changes something unless it is a dry run."""
    return not arguments["dry_run"]


def make_tool(
    method: Callable[..., Any],
    *,
    title: str,
    destructive: bool = False,
    idempotent: bool = True,
    open_world: bool = False,
    changes: Changes | None = None,
) -> Tool:
    """Make a tool with the name of the method and its docstring as description.

    Args:
        method: The body of the tool; each field of a model that it takes is an argument.
        title: The tool's name for people.
        destructive: Whether it can end or destroy something.
        idempotent: Whether a second call with the same arguments changes nothing more.
        open_world: Whether it reaches beyond the engine, such as to a model hub.
        changes: Which calls change anything; None: the tool only reads.
    """
    tool = Tool.from_function(
        one_by_one(method),
        title=title,
        description=_unwrap(method.__doc__ or ""),
        annotations=ToolAnnotations(
            read_only_hint=changes is None,
            destructive_hint=destructive,
            idempotent_hint=idempotent,
            open_world_hint=open_world,
        ),
    )
    plain = tool.fn_metadata
    strict = StrictMetadata(
        arg_model=plain.arg_model,
        output_model=plain.output_model,
        output_schema=cast("dict[str, Any]", of_results(plain.output_schema)),
    )
    strict.describe(tool.name, changes)
    parameters = cast("dict[str, Any]", of_arguments(tool.parameters))
    return tool.model_copy(
        update={
            "fn_metadata": strict,
            "parameters": {**parameters, "additionalProperties": False},
        }
    )


def refuse_changes(tool: Tool) -> None:
    """Refuse every call of a tool that changes anything."""
    cast("StrictMetadata", tool.fn_metadata).refuse_changes()


class StrictMetadata(FuncMetadata):
    """A tool's arguments and results, as strict as their schemas say.

    The SDK (2.3) drops unknown arguments in silence, and parses the text of any argument that is
    not plain `str` as JSON, which makes a list of the regular expression ``[0]``.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)
    _name: str = PrivateAttr(default="")
    _changes: Changes | None = PrivateAttr(default=None)
    _read_only: bool = PrivateAttr(default=False)

    def describe(self, name: str, changes: Changes | None) -> None:
        """Set the tool's name, and which of its calls change anything."""
        self._name, self._changes = name, changes

    def refuse_changes(self) -> None:
        """Refuse every call that changes anything."""
        self._read_only = True

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        """Check the arguments.

        Raises:
            InvalidArgument: An argument is unknown, missing or does not fit the schema.
            ReadOnly: The call would change something and the server is read-only.
        """
        known = list(self.arg_model.model_fields)
        if unknown := [name for name in arguments_to_validate if name not in known]:
            raise InvalidArgument(
                f"{self._name} has no argument {', '.join(map(repr, unknown))}",
                _nearest(unknown[0], known),
            )
        if name := next((name for name, v in arguments_to_validate.items() if _is_huge(v)), None):
            raise InvalidArgument(
                f"{self._name}: {name} has an integer beyond {MAX_INTEGER_BITS} bits",
                "Give a smaller one, or a text",
            )
        try:
            arguments = super().validate_arguments(arguments_to_validate)
        except ValidationError as error:
            raise InvalidArgument(
                f"{self._name}: {_problems(error)}", "Correct it and call the tool again"
            ) from error
        if self._read_only and self._changes and self._changes(arguments):
            raise ReadOnly(
                f"{self._name} changes something and this server is read-only",
                "Start the server without --read-only to allow it",
            )
        return arguments

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """Parse objects that a client sent as text; leave every other text alone."""
        objects = {
            name
            for name, info in self.arg_model.model_fields.items()
            if getattr(info.annotation, "__origin__", None) in (dict, list)
        }
        parsed = super().pre_parse_json({key: data[key] for key in data if key in objects})
        return data | parsed

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """Return the result as structured content, and as compact JSON for older clients."""
        if isinstance(result, InputRequiredResult) or not isinstance(result, BaseModel):
            return super().convert_result(result)
        answer = structured_result(result.model_dump(mode="json", by_alias=True))
        if isinstance(result, Illustrated) and result.png:
            data = base64.b64encode(result.png).decode()
            answer.content.append(ImageContent(type="image", data=data, mime_type="image/png"))
        return answer


def structured_result(fields: dict[str, Any]) -> CallToolResult:
    """Return fields as structured content, and as compact JSON for older clients."""
    content = own_redactor().data(fields)
    text = _as_json(content)
    if "\N{REPLACEMENT CHARACTER}" in text:
        content = pydantic_core.from_json(text)
    shown: list[ContentBlock] = [TextContent(type="text", text=inert_json(text))]
    return CallToolResult(content=shown, structured_content=content)


def as_tool_error(error: BaseException) -> ToolError:
    """Turn what a tool raised into one line for the client, without the inside of a defect."""
    cause = error.__cause__ if isinstance(error, ToolError) and error.__cause__ else error
    if isinstance(cause, OumiFlowsError) and cause.code is not ErrorCode.INTERNAL:
        return ToolError(one_line(own_redactor().text(_encodable(str(cause)))))
    if not isinstance(cause, OumiFlowsError):
        cause = InternalError(
            f"A defect in oumi-flows ({type(cause).__name__})",
            "Report it with the last lines of the server's standard error",
        )
    return UnexpectedToolError(str(cause))


def _is_huge(value: object) -> bool:
    """Whether the value holds an integer that Prefect's API refuses."""
    if isinstance(value, dict):
        return any(map(_is_huge, cast("dict[object, object]", value).values()))
    if isinstance(value, list):
        return any(map(_is_huge, cast("list[object]", value)))
    return isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS


def _as_json(content: dict[str, Any]) -> str:
    try:
        return pydantic_core.to_json(content).decode()
    except pydantic_core.PydanticSerializationError:
        return _encodable(json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot hold: the name of a file may have any bytes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unwrap(docstring: str) -> str:
    """Put each paragraph of a docstring on one line."""
    paragraphs = docstring.strip().split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"It takes {', '.join(known)}" if known else "It takes no arguments"


def _problems(error: ValidationError) -> str:
    """List the first few problems, without the values, which may be secret."""
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"][:2])
        # A value of several possible types has a problem for each; the first is enough.
        problems.setdefault(where, f"{where}: {item['msg']}")
    more = len(problems) - _PROBLEMS_SHOWN
    return "; ".join(list(problems.values())[:_PROBLEMS_SHOWN]) + (
        f"; and {more} more" if more > 0 else ""
    )
