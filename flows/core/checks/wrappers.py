"""Commands that run another command: ``env``, ``sudo``, ``docker run``, ``bash -c``."""

import re
from typing import Final, NamedTuple

_TAKE_VALUES: Final[dict[str, tuple[str, int]]] = {
    "builtin": ("", 0),
    "caffeinate": ("tw", 0),
    "catchsegv": ("", 0),
    "chrt": ("TPD", 1),
    "command": ("", 0),
    "doas": ("uC", 0),
    "env": ("uCS", 0),
    "exec": ("a", 0),
    "flock": ("wE", 1),
    "ionice": ("cnp", 0),
    "nice": ("n", 0),
    "nohup": ("", 0),
    "numactl": ("NmCcpil", 0),
    "setsid": ("", 0),
    "stdbuf": ("ioe", 0),
    "sudo": ("ugphCDRTr", 0),
    "taskset": ("", 1),
    "time": ("fo", 0),
    "timeout": ("ks", 1),
    "unbuffer": ("", 0),
    "xvfb-run": ("nsefpw", 0),
}
"""For each: its short options that take a value, and how many arguments precede the command."""

_LONG_WITH_VALUE: Final = frozenset(
    {"--adjustment", "--chdir", "--class", "--classdata", "--format", "--group", "--kill-after",
     "--output", "--signal", "--unset", "--user", "--cpunodebind", "--membind", "--physcpubind",
     "--interleave", "--preferred"}
)  # fmt: skip

ELSEWHERE: Final = frozenset(
    {"apptainer", "chroot", "docker", "enroot", "kubectl", "modal", "nerdctl", "podman",
     "singularity", "sky", "ssh"}
)  # fmt: skip
"""Commands that run another one in another file system."""

SHELLS: Final = frozenset({"bash", "sh", "zsh", "dash", "ksh"})

WRAPPERS: Final = ELSEWHERE | _TAKE_VALUES.keys() | {
    "torchrun", "accelerate", "deepspeed", "python", "python3", "srun", "mpirun", "mpiexec",
    "horovodrun", "uv", "uvx", "pipx", "poetry", "pipenv", "pdm", "hatch", "rye", "conda",
    "mamba", "micromamba", "pixi", "nsys", "ncu", "py-spy", "coverage", "strace", "xargs",
    "parallel", "find", "watch", "tmux", "screen", "script", "su", "systemd-run", "ts", "tsp",
}  # fmt: skip
"""Commands that run another command."""

REPEATERS: Final = frozenset({"xargs", "parallel", "find"})
"""Wrappers that add arguments to the command that they run."""

_RUN_TEXT: Final = WRAPPERS - {"python", "python3", "conda", "uv", "coverage"}
"""Wrappers that may get a whole script as one argument."""

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")


def base_name(word: str) -> str:
    """The name of a command without its folder."""
    return word.rpartition("/")[2] or word


class Wrapped(NamedTuple):
    """A command without what runs it."""

    words: list[str]
    folder: str = ""
    """The folder that the wrappers change to; empty: none."""
    is_elsewhere: bool = False
    """Whether it runs in another file system."""
    is_look_up: bool = False
    """Whether the command is only looked up, as by ``command -v``."""

    @property
    def name(self) -> str:
        """The command without its folder."""
        return base_name(self.words[0]) if self.words else ""


def unwrap(words: list[str]) -> Wrapped:
    """Remove the commands that only run another one, such as ``env`` and ``sudo``."""
    place, folder, is_look_up = 0, "", False
    while place < len(words):
        name = base_name(words[place])
        if name not in _TAKE_VALUES:
            if place == 0 and words[0].startswith("-"):  # options of the keywords time and exec
                place += 1
                continue
            break
        start = place + 1
        place, change = _skip_options(name, words, start)
        folder = change or folder
        is_look_up |= name == "command" and any(w in ("-v", "-V") for w in words[start:place])
    rest = words[place:]
    name = base_name(rest[0]) if rest else ""
    in_image = name == "srun" and any(word.startswith("--container-image") for word in rest)
    return Wrapped(rest or words, folder, name in ELSEWHERE or in_image, is_look_up)


def inner_script(words: list[str]) -> list[str]:
    """The scripts that a command gets as arguments, as ``bash -c`` does; not those in files."""
    core = unwrap(words)
    if core.name == "eval":
        return [" ".join(core.words[1:])]
    if core.name == "trap":
        return core.words[1:2]
    for place, word in enumerate(core.words):
        if base_name(word) in SHELLS and (place == 0 or core.name in WRAPPERS):
            text = _text_of_c(core.words[place + 1 :])
            return [] if text is None else [text]
    if core.name in _RUN_TEXT:
        return [word for word in core.words[1:] if re.search(r"\boumi\s+[a-z]", word)]
    return []


def script_file(words: list[str]) -> tuple[str, list[str]] | None:
    """The script file that a shell runs or reads, and its arguments."""
    core = unwrap(words)
    arguments = core.words[1:]
    if core.name in ("source", "."):
        return (arguments[0], arguments[1:]) if arguments else None
    if core.name in SHELLS:
        place = 0
        while place < len(arguments) and arguments[place].startswith(("-", "+")):
            if re.fullmatch(r"-\w*[cs]\w*", arguments[place]):
                return None
            place += 2 if re.fullmatch(r"[-+]\w*[oO]", arguments[place]) else 1
        return (arguments[place], arguments[place + 1 :]) if place < len(arguments) else None
    if re.fullmatch(r"(?:\.{1,2}/|[\w.-]+/).*\.(?:sh|bash)", core.words[0]):
        return core.words[0], arguments
    return None


def _skip_options(name: str, words: list[str], place: int) -> tuple[int, str]:
    """Skip a wrapper's options and arguments; return where they end, and its change of folder."""
    short, arguments = _TAKE_VALUES[name]
    folder = ""
    while place < len(words):
        word = words[place]
        if name in ("env", "sudo", "doas") and _ASSIGNMENT.match(word):
            place += 1
            continue
        if not word.startswith("-") or word == "-":
            if word == "-" or arguments == 0:
                break
            arguments -= 1
            place += 1
            continue
        place += 1
        if word == "--":
            break
        option, equals, value = word.partition("=")
        takes = option in _LONG_WITH_VALUE or (len(word) == 2 and word[1] in short)
        if takes and not equals and place < len(words):
            value = words[place]
            place += 1
        if option == "--chdir" or (word[:2] == "-C" and name == "env"):
            folder = value or word[2:]
    return place, folder


def _text_of_c(options: list[str]) -> str | None:
    for index, option in enumerate(options[:-1]):
        if re.fullmatch(r"-\w*c", option):
            return options[index + 1]
        if not option.startswith(("-", "+")) and option not in ("pipefail", "extglob"):
            break
    return None
