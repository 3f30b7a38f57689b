"""The text of a shell script, prepared for reading: joined lines, and here-documents set apart."""

import re
from bisect import bisect_right
from copy import copy
from typing import Final, NamedTuple

_HEREDOC: Final = re.compile(r"(?<!<)<<(?P<tabs>-?)\s*(?P<quote>['\"\\]?)(?P<end>[A-Za-z_][\w.-]*)")
_CONTINUED: Final = re.compile(r"(?<!\\)(?:\\\\)*\\$")
_KNOWN_OUTPUT: Final = (
    (re.compile(r"\$\(\s*pwd(?:\s+-[LP])?\s*\)|`\s*pwd(?:\s+-[LP])?\s*`"), "$PWD"),
    (
        re.compile(r"\$\(\s*(?:which|command\s+-v|type\s+-p)\s+(\w+)\s*\)|`\s*which\s+(\w+)\s*`"),
        r"/usr/bin/\1\2",
    ),
)
"""Substitutions whose output is known without running them."""


class Heredoc(NamedTuple):
    """A here-document: its delimiter, its text, and the index of its first line."""

    end: str
    text: str
    line: int


class ShellText:
    """A script as the reader needs it.

    Args:
        script: The script.

    Attributes:
        text: The script without its here-documents; lines that end in a backslash are joined.
        heredocs: The here-documents, in order.
    """

    def __init__(self, script: str) -> None:
        self.heredocs: list[Heredoc] = []
        self._starts: list[int] = []
        self._lines: list[int] = []
        self._shift = 0
        self.text = "".join(self._read(script.splitlines()))

    def line_of(self, offset: int) -> int:
        """The index of the script's line that a character of `text` is from."""
        place = bisect_right(self._starts, offset + self._shift) - 1
        return self._lines[place] if place >= 0 else 0

    def part(self, start: int, end: int) -> "ShellText":
        """The part of the script between two characters of `text`."""
        part = copy(self)
        part.text = self.text[start:end]
        part._shift = self._shift + start
        return part

    def _read(self, lines: list[str]) -> list[str]:
        pieces: list[str] = []
        index, offset, is_continued = 0, 0, False
        while index < len(lines):
            line = lines[index].lstrip() if is_continued else lines[index]
            self._starts.append(offset)
            self._lines.append(index)
            is_comment = not is_continued and line.lstrip().startswith("#")
            is_continued = not is_comment and bool(_CONTINUED.search(line))
            piece = f"{line[:-1]} " if is_continued else f"{line}\n"
            for pattern, output in _KNOWN_OUTPUT:
                piece = pattern.sub(output, piece)
            pieces.append(piece)
            offset += len(piece)
            index += 1
            if not is_comment:
                index = self._take_heredocs(line, lines, index)
        return pieces

    def _take_heredocs(self, line: str, lines: list[str], index: int) -> int:
        """Set the here-documents of a line apart; return the index of the line after them."""
        for matched in _HEREDOC.finditer(line):
            for last in range(index, len(lines)):
                if lines[last].strip() == matched["end"]:
                    body = "\n".join(lines[index:last])
                    self.heredocs.append(Heredoc(matched["end"], body, index))
                    index = last + 1
                    break
        return index


def join_lines(text: str) -> str:
    """Join lines of a script that end in a backslash with the next line."""
    return re.sub(r"\\\n\s*", " ", text)
