"""Which names hold secrets, and which values are too common to be a secret.

Everything that hides, refuses or reports a secret by the name it is given under asks here:
environment variables, overrides, keys of configs, options and assignments in scripts and logs.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final

from flows.core import names


class Grade(IntEnum):
    """How sure a name is to hold a secret."""

    NONE = 0
    LIKELY = 1
    """The value decides: ``DATASET_KEY: messages`` is none, ``MY_KEY: 7f3a9b21c4`` is one."""
    CERTAIN = 2


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")

_ABOUT: Final = _words(
    """
    algorithm budget column count dir enabled endpoint env expires expiry field file folder
    format host index len length limit location max min mode name names pattern policy prefix
    rate required rotation size stdin suffix template ttl type uri url varname version path
    """
)
"""Last words of names that say something about a secret and hold none."""
_CERTAIN: Final = _words(
    """
    authorization bearer credential credentials dsn jwt mnemonic passcode passphrase passwd
    password passwords psk pwd secret secrets webhook webhooks
    """
)
_CERTAIN_PART: Final = re.compile(
    r"password|passwd|passphrase|secret|credential|api_?keys?$|(?:access|private|secret)_?key"
    r"|(?:auth|access|bearer|refresh)_?token(?!s?_per)|auth_?string|conn(?:ection)?_?str(?:ing)?"
    r"|webhook_?ur[il]"
)
_PASSWORD: Final = re.compile(r"pass(?:word|wd|code|phrase)?s?(?:_|$)|pwd|(?:^|_)pin$")
_LIKELY: Final = _words(
    """
    auth cookie cookies pass pat sas
    """
)
_JOINED_PASSWORD: Final = re.compile(r"\w+(?:pass|pwd)")
_NOT_PASS: Final = _words(
    """
    bypass compass encompass overpass surpass underpass
    """
)
_NOT_SECRET: Final = frozenset({"pwd", "oldpwd", names.JOB_KEY_ENV.lower()})

_KEYS: Final = _words(
    """
    access account admin api auth client deploy encryption license master private secret service
    shared signing ssh storage subscription
    """
)
"""What a key of is a secret, whatever its value."""
_KEYS_OF_DATA: Final = _words(
    """
    cache column completion config data dataset dict field foreign group idempotency image input
    instruction job join label launch lookup map message messages metric output partition
    primary prompt public response reward row sort source split state target text
    """
)
_TOKENS_OF_TEXT: Final = _words(
    """
    added audio bad begin bos chosen cls completion decoder eos extra forced generated ignore
    image input last length mask max mean min n new no num of output pad padding per prefix
    prompt rejected sep skip special start stop suffix suppress think thinking total train
    trained truncated unk video valid
    """
)
"""Tokens of a tokenizer, and counts of them."""
_TOKENS_OF_TURNS: Final = _words(
    """
    assistant context end system tool user
    """
)
_TEXT_JOINED: Final = re.compile(rf"(?:{'|'.join(sorted(_TOKENS_OF_TEXT))})tokens?")
_TOKEN: Final = re.compile(r"(\w*)tokens?")

SHORTEST: Final = 8
"""Characters; hiding every occurrence of a shorter value hides much that is no secret."""
_LONGEST_WORD: Final = 12
_SWITCH: Final = re.compile(
    r"(?:true|false|none|null|nil|yes|no|on|off|auto|enabled?|disabled?|default|inherit|unset)",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"[+-]?[\d.,_]+(?:e[+-]?\d+)?[kmgtb]?", re.IGNORECASE)
_SPECIAL: Final = re.compile(r"<.*>|\[.*\]|\{.*\}", re.DOTALL)
_REFERENCE: Final = re.compile(r"\$[\w{(]|`|\{\{|%\w+%|@\w+@|\*+$")
_PATH: Final = re.compile(
    r"(?:~|\.{0,2})/\S*|[\w./-]+/[\w.-]+\.\w{2,5}"
    r"|[\w-]+\.(?:json|pem|key|txt|ya?ml|env)"
)
_RANDOM: Final = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Z])(?=[^/]*[a-z])[A-Za-z0-9+=_-]{16,}")
_ONE_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_WORDS: Final = re.compile(
    r"(?:[A-Za-z]{1,15}(?:\d{1,2})?|v?\d{1,3}[kKmMbB]?)(?:[\s_./:,+@-]+(?:[A-Za-z]{1,15}(?:\d{1,2})?|v?\d{1,3}[kKmMbB]?))*"
)
_PLACEHOLDER: Final = re.compile(
    r"x+|\.+|\?+|changeme|change[-_ ]me|empty|dummy|fake|replace.*|your[-_ ].*|my[-_](?:api[-_])?"
    r"(?:key|token|secret|password)|todo.*|insert[-_ ].*|.*[-_]here",
    re.IGNORECASE,
)


@lru_cache(4096)
def grade(name: str) -> Grade:
    """How sure a name is to hold a secret: of a variable, an option, a config key."""
    words = [word for word in _NOT_WORD.split(_WORD_STARTS.sub("_", name).lower()) if word]
    words = [word for word in words if "tokeniz" not in word]
    joined = "_".join(words)
    if not words or joined in _NOT_SECRET or (words[-1] in _ABOUT and "webhook" not in joined):
        return Grade.NONE
    if words[-1] in ("id", "ids"):
        return Grade.LIKELY if grade("_".join(words[:-1])) else Grade.NONE
    if any(word in _CERTAIN for word in words) or _CERTAIN_PART.search(joined):
        return Grade.CERTAIN
    return max(_grade_of_word(words, at) for at in range(len(words)))


def is_secret(name: str) -> bool:
    """Whether a name may hold a secret; of some, `holds_secret` asks the value too."""
    return grade(name) is not Grade.NONE


def holds_secret(name: str, value: object) -> bool:
    """Whether a value given under a name is a secret."""
    how = grade(name)
    if how is Grade.NONE or value is None or isinstance(value, bool):
        return False
    text = str(value).strip()
    if not isinstance(value, str) or _NUMBER.fullmatch(text):
        return isinstance(value, str | int | float) and bool(text) and _is_password(name)
    if not text or _REFERENCE.match(text) or _SPECIAL.fullmatch(text) or _SWITCH.fullmatch(text):
        return False
    if how is Grade.LIKELY:
        return not is_common(text, how)
    return not _is_path(text)


def is_common(value: str, how: Grade = Grade.CERTAIN) -> bool:
    """Whether a value is too short or too common to be looked for in other text.

    Args:
        value: The value.
        how: The grade of the name that it is given under.
    """
    text = value.strip()
    if len(text) < SHORTEST or _NUMBER.fullmatch(text) or _REFERENCE.match(text):
        return True
    if _SPECIAL.fullmatch(text) or _SWITCH.fullmatch(text) or _PLACEHOLDER.fullmatch(text):
        return True
    if _is_path(text):
        return True
    if how is Grade.LIKELY:
        return bool(_WORDS.fullmatch(text))
    return bool(_ONE_WORD.fullmatch(text)) and len(text) <= _LONGEST_WORD


def is_placeholder(value: str) -> bool:
    """Whether a value stands where a person is to write a secret, or names where one is."""
    text = value.strip()
    return bool(
        _REFERENCE.search(text)
        or _SPECIAL.fullmatch(text)
        or _PLACEHOLDER.fullmatch(text)
        or _SWITCH.fullmatch(text)
        or _is_path(text)
    )


def _grade_of_word(words: list[str], at: int) -> Grade:
    word, before = words[at], words[at - 1] if at else ""
    is_last = at == len(words) - 1
    if word.endswith(("token", "tokens")):
        return _grade_of_token(word, before, is_last=is_last, after=words[at + 1 :])
    if is_last and word in ("key", "keys") and before not in _KEYS_OF_DATA:
        return Grade.CERTAIN if before in _KEYS else Grade.LIKELY
    if _JOINED_PASSWORD.fullmatch(word) and word not in _NOT_PASS:
        return Grade.CERTAIN
    return Grade.LIKELY if word in _LIKELY and is_last else Grade.NONE


def _grade_of_token(word: str, before: str, *, is_last: bool, after: list[str]) -> Grade:
    matched = _TOKEN.fullmatch(word)
    stem = (matched[1] if matched else "") or before
    if stem in _TOKENS_OF_TEXT or _TEXT_JOINED.fullmatch(word) or after[:1] == ["per"]:
        return Grade.NONE
    if not is_last or stem in _TOKENS_OF_TURNS or (not stem and word == "tokens"):
        return Grade.LIKELY
    return Grade.CERTAIN


def _is_password(name: str) -> bool:
    return bool(_PASSWORD.search(_WORD_STARTS.sub("_", name).lower().replace("-", "_")))


def _is_path(text: str) -> bool:
    """Whether a value names a file; a random part of it would be a secret all the same."""
    return bool(_PATH.fullmatch(text)) and not _RANDOM.search(text)
