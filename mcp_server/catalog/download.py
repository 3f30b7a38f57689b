"""Fetches one file over HTTP, with limits of time and size; resumes if the server can."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from flows.core.errors import ConfigNotFound, OperationTimeout, OumiFlowsError
from flows.core.models import Value

if TYPE_CHECKING:
    import httpx2

_CONNECT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 15.0
_MAX_REDIRECTS: Final = 5
_OFFLINE: Final = "Check the network, or set OUMI_FLOWS_CONFIGS_DIR to a folder of Oumi's configs"


class Download(Value):
    """A fetched file."""

    url: str
    size: int
    sha256: str
    etag: str | None = None


def download(
    url: str,
    target: Path,
    *,
    timeout_seconds: float,
    max_bytes: int,
    now: Callable[[], float] = time.monotonic,
) -> Download:
    """Fetch `url` into the file `target`.

    The part that a broken or late transfer received stays at ``target.part``; the next transfer
    continues there if the server still has the same file.

    Args:
        url: Where it is.
        target: Where to put it; it appears there complete.
        timeout_seconds: Limit of the whole transfer.
        max_bytes: Limit of the file's size.
        now: A monotonic clock.

    Raises:
        ConfigNotFound: It does not exist, or the transfer broke.
        OperationTimeout: It took too long.
    """
    import httpx2

    deadline = now() + timeout_seconds
    limits = httpx2.Timeout(
        min(_SILENCE_SECONDS, timeout_seconds), connect=min(_CONNECT_SECONDS, timeout_seconds)
    )
    try:
        with httpx2.Client(
            timeout=limits, follow_redirects=True, max_redirects=_MAX_REDIRECTS
        ) as client:
            return _Transfer(client, url, target, max_bytes).run(
                late=lambda: now() > deadline, limit=timeout_seconds
            )
    except httpx2.TimeoutException as error:
        raise _too_slow(url, timeout_seconds) from error
    # The last two: a proxy of the environment that is none, or that httpx cannot speak to.
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, ImportError) as error:
        reason = str(error) or type(error).__name__
        raise ConfigNotFound(f"{url} could not be fetched ({reason})", _OFFLINE) from error


class _Transfer:
    def __init__(self, client: "httpx2.Client", url: str, target: Path, max_bytes: int) -> None:
        self._client = client
        self._max_bytes = max_bytes
        self._url = url
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    def run(self, *, late: Callable[[], bool], limit: float) -> Download:
        """Fetch it, continuing from a part if possible."""
        offset, etag = self._resumable()
        headers = {"Accept-Encoding": "identity"}
        if offset and etag:
            headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
        with self._client.stream("GET", self._url, headers=headers) as response:
            self._check(response)
            goes_on = response.status_code == 206 and response.headers.get(
                "content-range", ""
            ).startswith(f"bytes {offset}-")
            offset = offset if goes_on else 0
            etag = _strong(response.headers.get("etag"))
            self._remember(etag)
            size = self._receive(response, offset, late=late, limit=limit)
        with self._part.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._part.replace(self._target)
        self._note.unlink(missing_ok=True)
        return Download(url=self._url, size=size, sha256=sha256, etag=etag)

    def _receive(
        self, response: "httpx2.Response", size: int, *, late: Callable[[], bool], limit: float
    ) -> int:
        """Add what comes to the part, of which `size` bytes are there; return its new size."""
        with self._part.open("ab" if size else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                size += len(chunk)
                if size > self._max_bytes:
                    self._forget()
                    raise _too_large(self._url, self._max_bytes)
                if late():
                    raise _too_slow(self._url, limit)
        return size

    def _check(self, response: "httpx2.Response") -> None:
        if self._url.startswith("https:") and response.url.scheme != "https":
            raise ConfigNotFound(
                f"{self._url} leads to {response.url}, which is not encrypted",
                "Set OUMI_FLOWS_CONFIGS_URL to the address of the archive",
            )
        if response.status_code == 416:
            self._forget()
        if response.status_code not in (200, 206):
            raise ConfigNotFound(
                f"{self._url} answers {response.status_code} {response.reason_phrase}",
                "Set OUMI_FLOWS_CONFIGS_URL to an archive of Oumi, or try again later",
            )

    def _resumable(self) -> tuple[int, str | None]:
        """Read the size of the part on this machine, and the ETag of its file."""
        try:
            note = cast("dict[str, Any]", json.loads(self._note.read_text(encoding="utf-8")))
            etag = note.get("etag")
            if note.get("url") == self._url and isinstance(etag, str):
                return self._part.stat().st_size, etag
        except (OSError, ValueError, AttributeError):
            pass
        return 0, None

    def _remember(self, etag: str | None) -> None:
        if etag:
            self._note.write_text(json.dumps({"url": self._url, "etag": etag}), encoding="utf-8")
        else:
            self._note.unlink(missing_ok=True)

    def _forget(self) -> None:
        self._note.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)


def _strong(etag: str | None) -> str | None:
    """Return an ETag that promises the same bytes."""
    return etag if etag and not etag.startswith("W/") else None


def _too_large(url: str, limit: int) -> OumiFlowsError:
    return ConfigNotFound(
        f"{url} has more than {limit:,} bytes, so it is not Oumi's archive",
        "Set OUMI_FLOWS_CONFIGS_URL to the address of the archive",
    )


def _too_slow(url: str, limit: float) -> OumiFlowsError:
    return OperationTimeout(f"{url} took longer than {limit:g} s", _OFFLINE)
