"""What looks like a secret wherever it stands: tokens of services, keys, what follows an option.

A log is searched fast or not at all, so expressions are tried only where they can match. Those of
tokens are tried on the distinct long words of a text; the others on texts that contain one of their
trigger words. 4 MB of a training's log take a second; every expression on every line takes forty.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from flows.core.secret_names import Grade, grade, holds_secret, is_common, is_placeholder

Span = tuple[int, int]


class _Rule(NamedTuple):
    words: tuple[str, ...]
    """Of which a text has one, if the expression can match it."""
    pattern: re.Pattern[str]
    group: int = 0


def _rule(words: str, pattern: str, group: int = 0, *, flags: re.RegexFlag = re.ASCII) -> _Rule:
    return _Rule(tuple(words.split()), re.compile(pattern, flags | re.ASCII), group)


_START: Final = r"(?<![A-Za-z0-9])"
_PEM_END: Final = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

_TOKENS: Final = (
    # Hugging Face; hf_transformers is none.
    _rule("hf_", _START + r"hf_(?:(?=[a-z]*[0-9A-Z])[A-Za-z0-9]{8,}|[a-z]{16,})"),
    _rule("api_org_", _START + r"api_org_[A-Za-z0-9]{20,}"),
    # OpenAI, Anthropic, OpenRouter, DeepSeek.
    _rule("sk-", _START + r"sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}"),
    _rule("gsk_", _START + r"gsk_[A-Za-z0-9]{20,}"),
    _rule("xai- pplx- tvly-", _START + r"(?:xai|pplx|tvly)-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"),
    _rule("tgp_v1_ rpa_ fw_", _START + r"(?:tgp_v1_|rpa_|fw_)(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}"),
    _rule("nvapi-", _START + r"nvapi-[A-Za-z0-9_-]{16,}"),
    _rule("r8_", _START + r"r8_[A-Za-z0-9]{20,}"),
    _rule("wandb_v1_", _START + r"wandb_v1_[A-Za-z0-9_-]{20,}"),
    _rule("ghp_ gho_ ghs_ ghu_ ghr_", _START + r"gh[opsur]_[A-Za-z0-9]{16,}"),
    _rule("github_pat_", _START + r"github_pat_\w{16,}"),
    _rule(
        "gl GR1348941",
        _START + r"(?:gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|agent|oas|ffct)-|GR1348941)"
        r"[A-Za-z0-9_-]{16,}",
    ),
    _rule("AKIA ASIA ABIA ACCA A3T", _START + r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}"),
    _rule("AIza", _START + r"AIza[A-Za-z0-9_-]{30,}"),
    _rule("GOCSPX- ya29.", _START + r"(?:GOCSPX-|ya29\.)[A-Za-z0-9_-]{20,}"),
    _rule(
        "AccountKey= SharedAccessKey= sig=",
        r"(?:AccountKey|SharedAccessKey|(?<=[?&])sig)=([A-Za-z0-9+/%]{32,}={0,2})",
        1,
    ),
    _rule("xox xapp-", _START + r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}", flags=re.IGNORECASE),
    _rule(
        "sk_live_ rk_live_ sk_test_ rk_test_ whsec_",
        _START + r"(?:[rs]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}",
    ),
    _rule("sq0", _START + r"sq0(?:csp|atp|idp)-[A-Za-z0-9_-]{22,}"),
    _rule("SG.", _START + r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    _rule("-us", _START + r"[0-9a-f]{32}-us\d{1,2}(?!\d)"),
    _rule("AC SK", _START + r"(?:AC|SK)(?=[a-f]*\d)[a-f0-9]{32}(?![A-Za-z0-9])"),
    _rule("AKC", _START + r"AKC[A-Za-z0-9]{30,}"),
    _rule(
        "npm_ pypi- dckr_ rubygems_",
        _START + r"(?:npm_|pypi-Ag|dckr_pat_|dckr_oat_|rubygems_)[A-Za-z0-9_-]{20,}",
    ),
    _rule(
        "dop_v1_ doo_v1_ shp dapi lin_api_ ntn_ hvs. hvb. pul- PMAK- NRAK- glsa_ glc_ sntry sbp_ "
        "dp. ATATT3 ATCTT3 KGAT_ sgp_ phc_ phx_ atlasv1",
        _START + r"(?:do[opr]_v1_|shp(?:at|ca|pa|ss)_|dapi(?=[a-f]*\d)|lin_api_|ntn_|hv[sb]\.|pul-"
        r"|PMAK-|NRAK-|glsa_|glc_|sntry[su]_|sbp_|dp\.(?:pt|st|ct)\.[\w.]{0,20}|AT[AC]TT3|KGAT_|sgp_"
        r"|ph[cx]_|[A-Za-z0-9]{14}\.atlasv1\.)[A-Za-z0-9_=-]{24,}",
    ),
    _rule("secret_", _START + r"secret_(?=[A-Za-z_]*\d)[A-Za-z0-9_]{32,}"),
    _rule("AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{40,}"),
    # Discord and Telegram bots.
    _rule(".", _START + r"[MNO][A-Za-z\d_-]{23,25}\.[A-Za-z\d_-]{6}\.[A-Za-z\d_-]{27,40}"),
    _rule(":AA", _START + r"\d{8,10}:AA[A-Za-z0-9_-]{33}"),
    # JSON web tokens.
    _rule("eyJ", _START + r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{8,})?"),
)
"""Tokens, which are one long word."""
_LONG_WORD: Final = re.compile(r"[\w.:+/=?&%-]{8,}", re.ASCII)

_SAID: Final = (
    _rule(
        "private putty-user-key-file",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        rf"(?:[A-Za-z0-9+/=:,.()\s\\-]{{0,20000}}?{_PEM_END}"
        r"|(?:(?:\\[nr]|\s){0,4}[A-Za-z0-9+/=]{16,})*)"
        r"|PuTTY-User-Key-File-\d[^\0]{0,8000}?Private-MAC: [0-9a-f]+",
    ),
    # Webhooks: the address lets its reader in.
    _rule(
        "hook /workflows/",
        r"(?<=://)(?:hooks\.slack\.com/(?:services|workflows|triggers)/|hooks\.zapier\.com/hooks/"
        r"|(?:\w+\.)?discord(?:app)?\.com/api/(?:v\d+/)?webhooks/|[\w.-]+\.webhook\.office\.com/"
        r"|[\w.-]+\.logic\.azure\.com(?::\d+)?/workflows/|hook\.\w+\.make\.com/)[^\s\"'<>\\]+",
    ),
    # user:password@host; a lone token before @ for the web, where a plain name is none.
    _rule("://", r"://([^\s/:@\"'\\]*:[^\s/@\"'\\]+)(?=@)", 1),
    _rule("://", r"https?://(?=[^@\s]*[\dA-Z])([^\s/:@\"'\\?#]{8,})(?=@)", 1),
    # Said to be one by what stands before it.
    _rule("bearer", r"bearer\s{1,3}([A-Za-z0-9._~+/=-]{8,})", 1, flags=re.IGNORECASE),
    _rule(
        "authorization",
        r"authorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:basic|token|digest)"
        r"\s{1,3}([A-Za-z0-9._~+/=-]{8,})",
        1,
        flags=re.IGNORECASE,
    ),
    _rule(
        "wandb",
        r"\bwandb\s+login\s+(?:--?[\w-]+(?:=\S+|\s+https?:\S+)?\s+){0,6}"
        r"[\"']?([A-Za-z0-9_][^\s\"';|&]{7,})",
        1,
    ),
    _rule(
        "login",
        r"\b(?:vault|ngc|comet|docker|podman|huggingface-cli|hf|az|oc)\s+(?:auth\s+)?login\b"
        r"[^\n;|&]{0,200}?\s-(?:p|t)[\s=]?[\"']?([^\s\"'$-][^\s\"';|&]*)",
        1,
    ),
    _rule(
        "sshpass mysql redis-cli",
        r"\b(?:sshpass\s+-p\s?|mysql\w*\s[^\n;|&]{0,200}?-p|redis-cli\s[^\n;|&]{0,200}?-a\s?)"
        r"[\"']?([^\s\"'$-][^\s\"';|&]*)",
        1,
    ),
    _rule(
        "curl wget",
        r"\b(?:curl|wget)\s[^\n]{0,300}?(?<=\s)(?:-u|--user)[\s=]?[\"']?"
        r"[^\s:\"'$]+:([^\s\"'$][^\s\"']*)",
        1,
    ),
    _rule("machine", r"\bmachine\s+\S+\s+login\s+\S+\s+password\s+(\S+)", 1),
    _rule(
        "configure",
        r"\bconfigure\s+set\s+[\w.]*(?:secret|token|password)[\w.]*\s+"
        r"[\"']?([^\s\"'$][^\s\"']*)",
        1,
    ),
)

_NAME_WORDS: Final = (
    "token",
    "secret",
    "pass",
    "pwd",
    "key",
    "auth",
    "cred",
    "dsn",
    "webhook",
    "pat",
    "conn",
    "cookie",
    "jwt",
    "bearer",
    "mnemonic",
    "psk",
    "sas",
)
_NAME_REACH: Final = 64
_BEFORE: Final = re.compile(r".*[^\w.-]", re.DOTALL | re.ASCII)
_NAME: Final = re.compile(r"[\w-]*", re.ASCII)
_AFTER: Final = re.compile(
    r"""(?P<close>[\\"'\]]{0,3})
    (?:(?P<sign>[ \t]{0,3}(?::=|=>|[=:])[ \t]{0,3})|(?P<space>[ \t]{1,3}))
    (?P<quote>\\?["'])?(?P<value>(?(quote)(?:\\.|(?!(?P=quote))[^\n\\])*|[^\s"'`]+))""",
    re.VERBOSE | re.ASCII,
)
_FOLLOWS: Final = re.compile(r"""[\\"'\]]{0,3}(?:[ \t]{0,3}(?P<sign>:=|=>|[=:])|[ \t])""")
"""What each match of `_AFTER` starts with."""
_SETENV: Final = "setenv "
_ENDS_VALUE: Final = re.compile(r"[,;&|)}\]<>\\]")
_CODE: Final = re.compile(
    r"[A-Za-z_]\w*(?:\.\w+)*[(\[].*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII
)
_SCHEMES: Final = frozenset({"basic", "bearer", "token", "digest"})
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")


def long_words(text: str) -> str:
    """The long words of a text, each once, a line each: far less than the text to search."""
    return "\n".join(dict.fromkeys(_LONG_WORD.findall(text)))


def is_long_word(text: str) -> bool:
    """Whether `long_words` of every text that has `text` in it has it too."""
    return _LONG_WORD.fullmatch(text) is not None


def as_bytes(text: str) -> bytes:
    """The bytes that a program writes for a text; a lone surrogate of no byte becomes ``?``."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def shape_spans(text: str, long_words: str) -> Iterator[Span]:
    """Where tokens, keys and addresses stand that are secret by their look.

    Args:
        text: The text.
        long_words: What `long_words` makes of it.
    """
    for rule in _TOKENS:
        has_word = any(word in long_words for word in rule.words)
        if has_word and rule.pattern.search(long_words):
            yield from (found.span(rule.group) for found in rule.pattern.finditer(text))
    lower = text.lower()
    for rule in _SAID:
        if any(word in lower for word in rule.words):
            yield from (found.span(rule.group) for found in rule.pattern.finditer(text))


def named_spans(text: str) -> Iterator[Span]:
    """Where values stand that are secret by the name beside them, as in ``--token value``."""
    lower = text.lower()
    seen: set[int] = set()
    for word in _NAME_WORDS:
        at = lower.find(word)
        while at >= 0:
            span, end = _named_at(text, at, seen)
            if span is not None:
                yield span
            at = lower.find(word, max(end, at + 1))


def _named_at(text: str, at: int, seen: set[int]) -> tuple[Span | None, int]:
    """The value of the name around a place, if it is secret; where the name ends."""
    name_end = _end(_NAME.match(text, at, at + _NAME_REACH), at)
    if name_end in seen:
        return None, name_end
    seen.add(name_end)
    window = max(0, at - _NAME_REACH)
    follows = _FOLLOWS.match(text, name_end)
    # What stands after most names shows that no value does: the rest costs ten times as much.
    if follows is None or not (follows["sign"] or _may_be_option(text, window, at)):
        return None, name_end
    begins = window + _end(_BEFORE.match(text[window:at]), 0)
    name = text[begins:name_end].lstrip(".")
    if grade(name.rpartition(".")[2]) is Grade.NONE:
        return None, name_end
    after = _AFTER.match(text, name_end)
    if after is None:
        return None, name_end
    is_option = name.startswith("--") or text[max(0, begins - 7) : begins] == _SETENV
    if after["sign"] is None and not is_option:
        return None, name_end
    name = name.lstrip("-").rpartition(".")[2]
    return _secret_value(text, name, after, is_option=is_option), name_end


def _may_be_option(text: str, window: int, at: int) -> bool:
    """Whether an option may start between two places; the exact rule is in `_named_at`."""
    return text.find("--", window, at) >= 0 or text.find(_SETENV, max(0, window - 7), at) >= 0


def _secret_value(text: str, name: str, after: re.Match[str], *, is_option: bool) -> Span | None:
    how = grade(name)
    start, end = after.span("value")
    value = after["value"]
    is_variable = (after["sign"] or "").strip() == "=" and _VARIABLE.fullmatch(name) is not None
    if not after["quote"] and not is_variable:
        cut = _ENDS_VALUE.search(value)
        end = start + cut.start() if cut else end
        value = text[start:end].rstrip(".")
        end = start + len(value)
    elif not after["quote"]:
        value = value.rstrip(";")
        end = start + len(value)
    if not value or value.lower() in _SCHEMES or not holds_secret(name, value):
        return None
    # `holds_secret` is enough where a value is set; a log may only talk of it.
    is_set = is_option or is_variable
    if not is_set and (is_common(value, how) or is_placeholder(value) or _CODE.fullmatch(value)):
        return None
    return start, end


def _end(match: re.Match[str] | None, default: int) -> int:
    return match.end() if match else default
