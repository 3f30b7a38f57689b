"""Keeping secrets out of what people, models and Prefect are shown."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from flows import names

HIDDEN: Final = "***"
"""Stands where a secret was."""

_SECRET_NAME: Final = re.compile(
    r"token(?!iz|s(?:_|$))|secret|passw|passphrase|credential|api_?key|auth_?string|authorization"
    r"|(?:^|_)(?:key|pat)(?:_|$)",
    re.IGNORECASE,
)
_SECRET_KEYS: Final = frozenset({"api_key", "hf_token", "password", "secret", "token"})
_SHAPES: Final = re.compile(
    r"""
    \b(?:
      hf_(?:(?=[a-z]*[0-9A-Z])[A-Za-z0-9]{8,}|[a-z]{16,}) # Hugging Face; not hf_transformers
    | sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}              # OpenAI, Anthropic
    | gh[opsur]_[A-Za-z0-9]{16,} | github_pat_\w{16,}     # GitHub
    | glpat-[A-Za-z0-9_-]{16,}                            # GitLab
    | (?:AKIA|ASIA)[A-Z0-9]{16}                           # AWS
    | AIza[A-Za-z0-9_-]{30,}                              # Google
    | xox[abeoprs]-[A-Za-z0-9-]{10,}                      # Slack
    | nvapi-[A-Za-z0-9_-]{16,}                            # NVIDIA
    | r8_[A-Za-z0-9]{20,}                                 # Replicate
    | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}   # JSON web tokens
    )
    | (?<=Bearer\ )[A-Za-z0-9._~+/=-]{8,}
    | (?<=://)[^\s/:@"'\\]*:[^\s/@"'\\]+(?=@)             # user:password@host
    """,
    re.VERBOSE,
)
_ASSIGNMENT: Final = re.compile(r"""\b([A-Z][A-Z0-9_]*)=("[^"\n]*"|'[^'\n]*'|[^\s"']+)""")

_SHORTEST_VALUE: Final = 6
"""Hiding every occurrence of a shorter value would hide much that is no secret."""
_SHORTEST_LINE: Final = 16


class Redactor:
    """Hides secrets in text.

    Args:
        values: Secrets that are known.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        known = {part for value in values for part in _parts(value)}
        longest_first = sorted(known, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def text(self, text: str) -> str:
        """`text` without the known secrets, and without what looks like one."""
        if self._values:
            text = self._values.sub(HIDDEN, text)
        return _ASSIGNMENT.sub(_hidden_assignment, hide_tokens(text))


def hide_tokens(text: str) -> str:
    """`text` without tokens of known services; JSON stays JSON."""
    return _SHAPES.sub(HIDDEN, text)


def is_secret(name: str) -> bool:
    """Whether the value of an environment variable of this name is a secret."""
    return name != names.JOB_KEY_ENV and bool(_SECRET_NAME.search(name))


def is_secret_override(key: str, value: object) -> bool:
    """Whether an override gives a secret."""
    if not isinstance(value, str):
        return False
    return key.rpartition(".")[2] in _SECRET_KEYS or hide_tokens(value) != value


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values of those variables that are secrets."""
    return [value for name, value in environment.items() if is_secret(name)]


def config_secrets(job_config: Mapping[str, Any]) -> list[str]:
    """The secrets among the environment variables of a job config."""
    envs = job_config.get("envs")
    if not isinstance(envs, dict):
        return []
    return secrets_of({str(k): str(v) for k, v in cast("dict[object, object]", envs).items()})


def without_secrets(job_config: Mapping[str, Any]) -> dict[str, Any]:
    """A job config whose secret environment variables are hidden, for people to read."""
    envs = cast("dict[str, object]", job_config.get("envs") or {})
    shown = {name: HIDDEN if is_secret(name) else value for name, value in envs.items()}
    return {**job_config, "envs": shown}


def _parts(value: str) -> list[str]:
    """What to look for in text: the value, or each longer line of it."""
    if "\n" in value:
        return [line for line in value.splitlines() if len(line) >= _SHORTEST_LINE]
    return [value] if len(value) >= _SHORTEST_VALUE else []


def _hidden_assignment(match: re.Match[str]) -> str:
    name, value = match.groups()
    is_reference = value.lstrip("\"'").startswith("$")
    return match[0] if is_reference or not is_secret(name) else f"{name}={HIDDEN}"
