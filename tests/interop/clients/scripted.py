"""A model that is a script: each step gets the last tool's answer and asks for the next call."""

import json
from collections.abc import Callable, Generator
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

Script = Generator[ToolCallPart, Any, dict[str, Any]]


def scripted_model(begin: Callable[[list[str]], Script]) -> FunctionModel:
    """A model that runs the script `begin` makes of the tools' names, and tells what it returns."""
    steps: Script | None = None

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        nonlocal steps
        try:
            if steps is None:
                steps = begin([tool.name for tool in info.function_tools])
                return ModelResponse([next(steps)])
            returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
            return ModelResponse([steps.send(returned[-1].content)])
        except StopIteration as end:
            return ModelResponse([TextPart(json.dumps(end.value))])

    return FunctionModel(answer)
