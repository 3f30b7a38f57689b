"""Makes foreign text harmless before a terminal or a model's client shows it.

Names, logs and errors may hold escape sequences, which move the cursor, set titles and fill
clipboards, and Unicode characters that reorder text or are invisible. Each becomes the escape that
Python and JSON write for it, so that nothing is lost or hidden.
"""

import re
from typing import Final

_UNSEEN: Final = (
    "\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e01ef"
)
"""C1 and bidirectional controls, line separators and characters without width, except those that
join letters and emoji (U+200C, U+200D)."""
_ACTIVE: Final = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}\ud800-\udfff]")
_OF_JSON: Final = re.compile(f"[{_UNSEEN}\ud800-\udfff]")


def visible(text: str) -> str:
    """Escape every invisible character of `text` except line breaks and tabs."""
    return _ACTIVE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Escape as `visible` does, and put the text on one line."""
    return visible(text).replace("\n", "\\n").replace("\t", " ")


def inert_json(text: str) -> str:
    """Escape such characters in `text`, which is JSON, without changing its meaning."""
    return _OF_JSON.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
