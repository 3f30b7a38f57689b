"""Whether what a guide says is so: each thing in backticks is one of the kinds below, or wrong."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from flows.core.configs.checks import config_problems
from flows.core.configs.schema import ConfigType, fields_of, load_schema, root_spec
from flows.core.errors import ErrorCode
from flows.core.settings import Settings
from mcp_server.guidance import GUIDES
from tests.guidance.markdown import Guide

_DOTTED = re.compile(r"([a-z_0-9]+(?:\[\])?(?:\.[a-z_0-9]+(?:\[\])?)+)(?:: (.+))?")
_KEY_VALUE = re.compile(r"([a-z_0-9]+): (.+)")
_CALL = re.compile(r"([a-z_]+)\((.*)\)")
_ARGUMENT = re.compile(r"([a-z_]+)=(.+)")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_UPPER = re.compile(r"[A-Z][A-Z0-9_]+")
_EXTRA = re.compile(r"oumi\[([a-z-]+)\](?:==([\d.]+))?")
_METRIC = re.compile(r"(?:[A-Z][a-z]+\.|[a-z]+__)([a-z_]+)")
_PLACEHOLDER = re.compile(r"\{[a-z.]+\}|<[a-z_ ]+>(?:_<[a-z]+>)?")
_PROGRAMS = {"rsync", "set", "pip", "uv", "ssh"}


class Facts:
    """What is installed, and how many things were found to be so.

    Args:
        installed: What `tests.guidance.installed` found out.
        tools: The input and output property names of each tool.
        ours: The commands of `oumi-flows`, as those of the others.
        sources: Whether a text occurs in the source of what is installed.
    """

    def __init__(
        self,
        installed: dict[str, Any],
        tools: dict[str, tuple[set[str], set[str]]],
        ours: dict[str, Any],
        sources: Callable[[str], bool],
    ) -> None:
        self.installed = installed
        self.count: Counter[str] = Counter()
        self._tools = tools
        self._commands = installed["commands"] | {"oumi-flows": ours}
        self._sources = sources
        self._registered = {name for names in installed["registry"].values() for name in names}
        self._enums = {member for names in load_schema()["enums"].values() for member in names}
        self._outputs = {name for _, outputs in tools.values() for name in outputs}
        self._inputs = {name for inputs, _ in tools.values() for name in inputs}
        self._metrics = {name for names in installed["analyzers"].values() for name in names}
        self._top_level = {key for kind in ConfigType for key in fields_of(root_spec(kind))}

    def problems(self, guide: Guide) -> list[str]:
        """Everything in a guide that is not so."""
        found = [problem for token in guide.inline if (problem := self.problem(token))]
        for line in guide.command_lines:
            found += self._line_problems(line)
        for kind, text in guide.configs:
            found += self._config_problems(ConfigType(kind), text)
        return [f"{guide.name}: {problem}" for problem in found]

    def problem(self, token: str) -> str | None:
        """What is wrong with something in backticks; None: it is so."""
        for kind, is_it in self._kinds():
            answer = is_it(token)
            if answer is not None:
                self.count[kind] += 1
                return None if answer is True else f"`{token}`: {answer}"
        return f"`{token}` is nothing that is known"

    def _kinds(self) -> Iterator[tuple[str, Callable[[str], str | bool | None]]]:
        """Each says True (it is so), why not, or None (not of this kind)."""
        yield "resources", self._resource
        yield "commands", self._command
        yield "tools", self._tool_call
        yield "config keys", self._dotted_key
        yield "names", self._upper_name
        yield "extras", self._extra
        yield "names", self._registered_name
        yield "config keys", self._top_level_key
        yield "tools", self._tool_words
        yield "rows", self._row
        yield "metrics", self._metric
        yield "options", self._option
        yield "placeholders", lambda token: True if _PLACEHOLDER.fullmatch(token) else None
        yield "files and words", self._in_sources

    def _resource(self, token: str) -> str | bool | None:
        if not token.startswith("guidance://"):
            return None
        return token.removeprefix("guidance://") in GUIDES or "no such guide"

    def _command(self, token: str) -> str | bool | None:
        words = token.split()
        if not words or words[0] not in (*self._commands, "rsync") or len(words) < 2:
            return None
        return "; ".join(self._line_problems(token)) or True

    def _line_problems(self, line: str) -> list[str]:
        problems: list[str] = []
        for part in re.split(r" && | \|\| ", line):
            words = shlex.split(part)
            self.count["command lines"] += 1
            if words[0] in self._commands:
                problems += self._call_problems(words)
            elif words[0] not in _PROGRAMS:
                problems.append(f"{part}: {words[0]} is no program that guides use")
            elif match := re.search(r"oumi\[([a-z-]+)\]==([\d.]+)", part):
                problems += [] if self._extra(match[0]) is True else [part]
        return problems

    def _call_problems(self, words: list[str]) -> list[str]:
        program, rest = words[0], words[1:]
        if "-m" in rest[:3] and rest[:2] == ["distributed", "torchrun"]:
            return self._call_problems(["oumi", *rest[rest.index("oumi") + 1 :]])
        commands, path = self._commands[program], ""
        while rest and f"{path} {rest[0]}".strip() in commands:
            path = f"{path} {rest.pop(0)}".strip()
        command = commands[path]
        if not path:
            return [f"{program} has no command {' '.join(words[1:])}"]
        problems: list[str] = []
        for word in rest:
            option = word.partition("=")[0]
            if not re.match(r"--?[a-zA-Z]", word):
                continue
            self.count["options"] += 1
            if option in command["options"]:
                continue
            key = option.removeprefix("--")
            if not (command["takes_any"] and self._dotted_key(key) is True):
                problems.append(f"{program} {path} has no option {option}")
        return problems

    def _tool_call(self, token: str) -> str | bool | None:
        match = _CALL.fullmatch(token)
        if match is None:
            return None
        name, arguments = match.groups()
        if name not in self._tools:
            return f"there is no tool {name}"
        inputs, _ = self._tools[name]
        given = re.findall(r"(?:^|, )([a-z_]+)(?==|,|$)", arguments)
        unknown = [argument for argument in given if argument not in inputs]
        return f"{name} has no argument {', '.join(unknown)}" if unknown else True

    def _dotted_key(self, token: str) -> str | bool | None:
        match = _DOTTED.fullmatch(token)
        if match is None:
            return None
        key, text = match.groups()
        nested: Any = yaml.safe_load(text) if text is not None else None
        for part in reversed(key.split(".")):
            is_list = part.endswith("[]")
            nested = {part.removesuffix("[]"): [nested] if is_list else nested}
        at_fault: list[str] = []
        for kind in ConfigType:
            if key.split(".")[0].removesuffix("[]") not in fields_of(root_spec(kind)):
                continue
            problems = [
                problem
                for problem in config_problems(nested, kind)
                if "unknown key" in problem.message or text is not None
            ]
            wrong = [p.message for p in problems if "is required" not in p.message]
            if not [message for message in wrong if "missing" not in message]:
                return True
            at_fault += wrong
        return "; ".join(at_fault) or None

    def _upper_name(self, token: str) -> str | bool | None:
        if not _UPPER.fullmatch(token):
            return None
        ours = {f"OUMI_FLOWS_{name.upper()}" for name in Settings.model_fields}
        known = token in self._enums | set(ErrorCode) | ours or self._sources(token)
        return known or "neither an enum's member, an error code nor a variable"

    def _extra(self, token: str) -> str | bool | None:
        match = _EXTRA.fullmatch(token)
        if match is None:
            return None
        extra, wanted = match.groups()
        if extra not in self.installed["extras"]:
            return f"oumi has no extra {extra}"
        installed = self.installed["versions"]["oumi"]
        return wanted in (None, installed) or f"the installed version is {installed}"

    def _registered_name(self, token: str) -> str | bool | None:
        names = self._registered | set(self.installed["quantize_methods"])
        return True if token.lower() in names | set(self.installed["analyzers"]) else None

    def _top_level_key(self, token: str) -> str | bool | None:
        match = _KEY_VALUE.fullmatch(token)
        key = match[1] if match else token
        return True if key in self._top_level else None

    def _tool_words(self, token: str) -> str | bool | None:
        if token in self._tools or token in self._outputs | self._inputs:
            return True
        match = _ARGUMENT.fullmatch(token) or _KEY_VALUE.fullmatch(token)
        return True if match and match[1] in self._inputs | self._outputs else None

    def _row(self, token: str) -> str | bool | None:
        if not token.startswith("{"):
            return None
        try:
            row = json.loads(token.replace("[...]", "[]"))
        except ValueError:
            return None
        return all(self._sources(f'"{key}"') for key in row) or "keys that Oumi does not know"

    def _in_sources(self, token: str) -> str | bool | None:
        if match := _KEY_VALUE.fullmatch(token):
            token = match[1]
        parts = [re.split(r"\d{4}|<", part)[0] for part in token.removeprefix("~/").split("/")]
        parts = [part for part in parts if part]
        return True if parts and all(len(p) > 2 and self._sources(p) for p in parts) else None

    def _metric(self, token: str) -> str | bool | None:
        match = _METRIC.fullmatch(token)
        return True if match and match[1] in self._metrics else None

    def _option(self, token: str) -> str | bool | None:
        option, _, value = token.removeprefix("--").partition(" ")
        return self._dotted_key(f"{option}: {value}") if token.startswith("--") else None

    def _config_problems(self, kind: ConfigType, text: str) -> list[str]:
        data = yaml.safe_load(text)
        self.count["config keys"] += sum(1 for _ in _keys(data))
        return [problem.message for problem in config_problems(data, kind)]


def _keys(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _keys(value)
    elif isinstance(data, list):
        for value in data:
            yield from _keys(value)
