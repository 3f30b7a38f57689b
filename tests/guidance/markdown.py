"""What a guide shows: fenced blocks, table rows, and what stands in backticks."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import yaml

from mcp_server.guidance import read_guide

_BLOCK = re.compile(r"^```(\w+) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block."""

    language: str
    kind: str
    text: str


@dataclass(frozen=True)
class Guide:
    """One of the served guides."""

    name: str

    @cached_property
    def text(self) -> str:
        return read_guide(self.name)

    @cached_property
    def blocks(self) -> list[Block]:
        return [Block(*found) for found in _BLOCK.findall(self.text)]

    @cached_property
    def inline(self) -> list[str]:
        """What stands in backticks outside of blocks, each once."""
        return list(dict.fromkeys(_INLINE.findall(_BLOCK.sub("", self.text))))

    @cached_property
    def configs(self) -> list[tuple[str, str]]:
        """The type and the YAML of each config of Oumi."""
        return [one for one in self._yaml if one[0] not in ("pipeline", "sweep")]

    @property
    def families(self) -> list[tuple[str, str]]:
        """The kind and the YAML of each pipeline and sweep."""
        return [one for one in self._yaml if one[0] in ("pipeline", "sweep")]

    @property
    def _yaml(self) -> list[tuple[str, str]]:
        return [(block.kind, block.text) for block in self.blocks if block.language == "yaml"]

    @cached_property
    def command_lines(self) -> list[str]:
        """The lines of shell blocks and of the scripts of job configs."""
        scripts = [block.text for block in self.blocks if block.language == "sh"]
        for kind, text in self.configs:
            if kind == "job":
                job = yaml.safe_load(text)
                scripts += [job.get("setup") or "", job["run"]]
        return [line.strip() for script in scripts for line in script.splitlines() if line.strip()]

    def rows(self, first: str, second: str) -> list[list[str]]:
        """The rows of the table whose header begins with these two cells."""
        lines = self.text.splitlines()
        starts = [i for i, line in enumerate(lines) if line.startswith(f"| {first} | {second} |")]
        rows: list[list[str]] = []
        for line in lines[starts[0] + 2 :] if starts else []:
            if not line.startswith("|"):
                break
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        return rows
