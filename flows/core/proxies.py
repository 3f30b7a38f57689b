"""The proxies that the environment names: none of them ever sees the loopback of this machine."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SCHEMES: Final = frozenset({"http", "https", "socks5", "socks5h"})
"""The proxies that httpx 0.28 speaks to; it raises for any other."""


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine by its loopback address."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d+){3}", host))


def proxy_changes(environ: Mapping[str, str]) -> dict[str, str]:
    """What to change in an environment so that its proxies can be used, and spare the loopback.

    A proxy that no HTTP client of ours can speak to becomes empty: the client would raise.
    ``socks://``, which desktops set, is written ``socks5://``.
    """
    lowered = {name.lower(): value for name, value in environ.items()}
    if not any(lowered.get(proxy) for proxy in _PROXIES):
        return {}
    exempt = [each.strip() for each in lowered.get("no_proxy", "").split(",") if each.strip()]
    exempt += [each for each in _LOOPBACK if each not in exempt and "*" not in exempt]
    changes = {name: ",".join(exempt) for name in ("no_proxy", "NO_PROXY")}
    for name, value in environ.items():
        if name.lower() in _PROXIES and value and (usable := _usable(value)) != value:
            changes[name] = usable
    return changes


def _usable(proxy: str) -> str:
    text = re.sub(r"^socks(4a?)?://", "socks5://", proxy.strip(), flags=re.IGNORECASE)
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme.lower() in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        return ""
    return (proxy if "://" not in proxy else text) if is_usable else ""
