"""The words that a shell makes of a script's words: quotes, known variables, loops, braces."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Final

QUOTED: Final = r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\."
_SEGMENT: Final = re.compile(rf"{QUOTED}|[^'\"\\]+", re.DOTALL)
_VARIABLE: Final = re.compile(
    r"\$(?:\{(?P<braced>\w+)\}|(?P<plain>[A-Za-z_]\w*|\d)"
    r"|\{(?P<name>\w+):?[-=](?P<default>[^{}$`]*)\})"
)
_ALL: Final = re.compile(r"\"?\$(?:\{(\w+)\[[@*]\]\}|\{?([@*])\}?)\"?")
_BRACES: Final = re.compile(r"(?<!\$)\{([^{}\s]*,[^{}\s]*|\d{1,3}\.\.\d{1,3})\}")
_MARK: Final = re.compile(r"\x01(\w+)\x01")
_MOST: Final = 16
"""Most values of a loop, or words of braces, that are followed."""

START: Final = "$PWD"
"""In a word: the folder in which the script starts."""
_START: Final = re.compile(r"(?:\$PWD|(?:~|\$HOME|\$\{HOME\})/sky_workdir)(?:/|$)")
_HOME: Final = re.compile(r"\$(?:HOME|\{HOME\})(?=/|$)")


def from_start(path: str) -> str | None:
    """A path relative to the script's first folder, if it is written as one below it."""
    matched = _START.match(path)
    return path[matched.end() :] or "." if matched else None


def write_home(path: str) -> str:
    """The path with ``~`` for ``$HOME``."""
    return _HOME.sub("~", path)


class Variables:
    """The variables of a script, as far as known.

    Args:
        values: Those that are set.
        lists: Arrays; ``@`` are the script's arguments.
    """

    def __init__(
        self, values: Mapping[str, str], lists: Mapping[str, list[str]] | None = None
    ) -> None:
        self._values = dict(values)
        self.lists = dict(lists or {})
        self.loops: dict[str, list[str]] = {}
        self.is_guess = False
        """Whether a word since the last reset has the default of an unknown variable."""

    def copy(self) -> "Variables":
        """The variables of a subshell."""
        copied = Variables(self._values, self.lists)
        copied.loops = dict(self.loops)
        return copied

    def set(self, name: str, value: str) -> None:
        """Set a variable."""
        self._values[name] = value
        self.lists.pop(name, None)

    def forget(self, name: str) -> None:
        """Note that a variable has an unknown value."""
        self._values.pop(name, None)
        self.lists.pop(name, None)

    def pass_arguments(self, arguments: list[str]) -> "Variables":
        """The variables of a script or a function with these arguments."""
        passed = self.copy()
        passed.set_arguments(arguments)
        return passed

    def set_arguments(self, arguments: list[str]) -> None:
        """Set the script's own arguments."""
        self.lists["@"] = self.lists["*"] = arguments
        for number in range(1, 10):
            self.forget(str(number))
            if number <= len(arguments):
                self.set(str(number), arguments[number - 1])

    def enter_from(self, folder: str | None) -> None:
        """Note the folder that the script just left."""
        self.forget("OLDPWD")
        if folder is not None:
            self.set("OLDPWD", _folder(folder))

    def begin_loop(self, name: str, values: list[str]) -> None:
        """Let a variable take several values."""
        if not values or any("$" in value or "`" in value for value in values):
            self.forget(name)
            return
        self.loops[name] = values[:_MOST]
        self._values[name] = f"\x01{name}\x01"

    def end_loop(self, name: str) -> None:
        """Keep the last value of a loop's variable."""
        values = self.loops.pop(name, None)
        if values:
            last = {name: [values[-1]]}
            self._values = {
                key: next(fill_loops([value], last))[0] for key, value in self._values.items()
            }

    def expand(self, word: str, cwd: str | None) -> list[str]:
        """Remove a word's quotes and replace known variables; split it as the shell does."""
        listed = _ALL.fullmatch(word)
        if listed:
            return self.lists.get(listed[1] or listed[2], [word.strip('"')])
        parts: list[str] = []
        for segment in _SEGMENT.findall(word):
            match segment[0]:
                case "'":
                    parts.append(segment[1:-1])
                case '"':
                    plain = re.sub(r"\\([\"\\$`])", r"\1", segment[1:-1])
                    parts.append(self._replace(plain, cwd))
                case "\\":
                    parts.append(segment[1:])
                case _:
                    parts.append(self._replace(segment, cwd))
        text = "".join(parts)
        if _VARIABLE.fullmatch(word) and text != word:
            return text.split() or [""]
        is_plain = not any(quote in word for quote in "'\"\\")
        return expand_braces(text) if is_plain else [text]

    def _replace(self, text: str, cwd: str | None) -> str:
        def value(matched: "re.Match[str]") -> str:
            name = matched["braced"] or matched["plain"] or matched["name"]
            if name == "PWD":
                return _folder(cwd)
            if name in self._values:
                return self._values[name]
            if matched["default"] is not None:
                self.is_guess = True
                return matched["default"]
            return matched[0]

        return _VARIABLE.sub(value, text)


def fill_loops(words: list[str], loops: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Write words once for every value of the loops whose variables they have."""
    names = list(dict.fromkeys(name for word in words for name in _MARK.findall(word)))
    choices = product(*(loops.get(name, [f"${name}"]) for name in names))
    for values in islice(choices, _MOST):
        chosen = dict(zip(names, values, strict=True))
        yield [_MARK.sub(lambda found, chosen=chosen: chosen[found[1]], word) for word in words]


def expand_braces(text: str) -> list[str]:
    """Write out ``a{b,c}`` and ``a{1..3}``."""
    matched = _BRACES.search(text)
    if matched is None:
        return [text]
    first, dots, last = matched[1].partition("..")
    if dots:
        low, high = sorted((int(first), int(last)))
        choices = [str(number) for number in range(low, high + 1)]
    else:
        choices = matched[1].split(",")
    before, after = text[: matched.start()], text[matched.end() :]
    written = [word for choice in choices for word in expand_braces(f"{before}{choice}{after}")]
    return written[:_MOST]


def _folder(cwd: str | None) -> str:
    if cwd is None:
        return "${PWD}"
    if cwd.startswith(("/", "~")):
        return cwd
    return f"{START}/{cwd}" if cwd else START
