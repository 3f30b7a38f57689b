"""Whether repositories of the Hugging Face hub can be read, within a time limit."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from flows.core.file_names import expand_home
from flows.core.regular_files import read_regular_file
from flows.launcher.bounded import in_time

_DEFAULT_ENDPOINT: Final = "https://huggingface.co"
_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
_AT_ONCE: Final = 8
_TOKEN_BYTES: Final = 10_000
_CONNECT_SECONDS: Final = 1.0
"""How long a connection may take, including the look-up of the name."""
_OF_LIMIT: Final = 0.95
"""The part of the limit after which the answers so far are returned."""
_REMEMBERED_SECONDS: Final = 15.0
"""How long a hub that could not be reached is not asked again."""


class Access(StrEnum):
    """The result of a look at a repository."""

    VALID = "valid"
    CACHED = "cached"
    GATED = "gated"
    NOT_FOUND = "not_found"
    NO_REVISION = "no_revision"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"
    OFFLINE = "offline"


class Question(NamedTuple):
    """A repository and its revision; the kind is `model` or `dataset`."""

    name: str
    kind: str
    revision: str = "main"


class HubReport(NamedTuple):
    """The answers of the hub.

    Attributes:
        authenticated: Whether it accepted our token; None: it was not asked, or did not answer.
    """

    access: dict[Question, Access]
    authenticated: bool | None


class Hub:
    """The hub of the environment; it is asked in the way of `huggingface_hub` 1.x.

    Args:
        environ: The environment of the worker.
        timeout_seconds: The time limit of all questions together.
        now: A clock that never goes back.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        timeout_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.environ = environ
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._away_until = now()
        self._endpoint = (environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")

    @property
    def is_offline(self) -> bool:
        """Whether the environment forbids questions to the hub."""
        names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        return any(self.environ.get(name, "").upper() in _TRUE for name in names)

    @property
    def token(self) -> str | None:
        """The token that jobs on this machine would use."""
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            if self.environ.get(name, "").strip():
                return self.environ[name].strip()
        path = expand_home(self.environ.get("HF_TOKEN_PATH") or self._home / "token")
        try:
            return read_regular_file(path, limit=_TOKEN_BYTES).decode().strip() or None
        except (OSError, ValueError):
            return None

    def page(self, question: Question) -> str:
        """The repository's page."""
        folder = "datasets/" if question.kind == "dataset" else ""
        return f"{self._endpoint}/{folder}{question.name}"

    async def look(
        self,
        questions: Iterable[Question],
        *,
        with_token: bool,
        within_seconds: float | None = None,
    ) -> HubReport:
        """Ask for repositories that are not in the cache; return within the time limit.

        Args:
            questions: The repositories.
            with_token: Whether the job will have our token.
            within_seconds: The limit; None: the hub's own.
        """
        wanted = list(dict.fromkeys(questions))
        access = {question: self._look_in_cache(question) for question in wanted}
        unknown = [question for question, found in access.items() if found is None]
        known = {question: found for question, found in access.items() if found is not None}
        token = self.token if with_token else None
        if not unknown:
            return HubReport(known, None if token else False)
        nothing = dict.fromkeys(unknown, Access.UNREACHABLE), None
        if self._now() < self._away_until:
            return HubReport(known | nothing[0], None)
        limit = self._timeout_seconds if within_seconds is None else within_seconds

        def ask() -> tuple[dict[Question, Access], bool | None]:
            # A name look-up without an answer blocks its thread for 10 s or longer. A loop of the
            # hub's own keeps it away from the threads that start jobs.
            loop = asyncio.new_event_loop()
            try:
                return loop.run_until_complete(self._ask(unknown, token, limit))
            finally:
                loop.close()

        try:
            answer = await in_time(ask, timeout_seconds=limit)
        # The last two: a proxy of the environment that is none, or that httpx cannot speak to.
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError):
            answer = None
        asked, authenticated = answer or nothing
        return HubReport(known | asked, authenticated)

    async def _ask(
        self, questions: list[Question], token: str | None, limit: float
    ) -> tuple[dict[Question, Access], bool | None]:
        slots = asyncio.Semaphore(_AT_ONCE)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(limit, connect=min(limit, _CONNECT_SECONDS))
        async with httpx.AsyncClient(
            base_url=self._endpoint,
            headers=headers,
            timeout=timeout,
            follow_redirects=True,
            max_redirects=_REDIRECTS,
        ) as client:

            async def ask(question: Question) -> Access:
                async with slots:
                    try:
                        return await _access(client, question)
                    except _NO_CONNECTION:
                        self._away_until = self._now() + _REMEMBERED_SECONDS
                        return Access.UNREACHABLE
                    except (httpx.HTTPError, OSError):
                        return Access.UNREACHABLE

            tasks = {question: asyncio.create_task(ask(question)) for question in questions}
            who = asyncio.create_task(_is_known(client)) if token else None
            everything: list[asyncio.Task[Any]] = [*tasks.values(), *([who] if who else [])]
            # A server may send a byte now and then for ever: only this limits the total time.
            try:
                await asyncio.wait(everything, timeout=limit * _OF_LIMIT)
            finally:
                for task in everything:
                    task.cancel()
                await asyncio.gather(*everything, return_exceptions=True)
        access = {
            question: Access.UNREACHABLE if task.cancelled() else task.result()
            for question, task in tasks.items()
        }
        if who is None:
            return access, False
        return access, None if who.cancelled() else who.result()

    def _look_in_cache(self, question: Question) -> Access | None:
        """The answer from the cache and the settings; None: the hub must be asked."""
        folder = self._cache / f"{question.kind}s--{question.name.replace('/', '--')}"
        try:
            # A branch or a tag; any other revision is the commit itself.
            commit = (folder / "refs" / question.revision).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            commit = question.revision
        try:
            if any((folder / "snapshots" / commit).iterdir()):
                return Access.CACHED
        except OSError:
            pass
        return Access.OFFLINE if self.is_offline else None

    @property
    def _home(self) -> Path:
        cache = self.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return expand_home(self.environ.get("HF_HOME") or Path(cache) / "huggingface")

    @property
    def _cache(self) -> Path:
        return expand_home(self.environ.get("HF_HUB_CACHE") or self._home / "hub")


async def _access(client: httpx.AsyncClient, question: Question) -> Access:
    """One request that tells access apart from mere existence; rarely two.

    Raises:
        HTTPError: The hub did not answer.
    """
    answer = None
    if question.kind == "dataset":
        # As huggingface_hub's `auth_check` asks: the hub shows a gated data set's README to all.
        answer = await client.get(f"/api/datasets/{question.name}/auth-check")
        if answer.status_code == _NOT_FOUND and not answer.headers.get(_ERROR):
            answer = None  # a mirror that does not know the question
    if answer is None:
        folder = "datasets/" if question.kind == "dataset" else ""
        file = "README.md" if folder else "config.json"
        url = f"/{folder}{question.name}/resolve/{question.revision}/{file}"
        answer = await client.head(url)
    code = answer.headers.get(_ERROR, "")
    if code in _BY_CODE:
        return _BY_CODE[code]
    if answer.status_code < 400:
        return Access.VALID if _is_of_hub(answer) else Access.UNREACHABLE
    if answer.status_code in (401, _NOT_FOUND):
        return Access.NOT_FOUND
    return Access.FORBIDDEN if answer.status_code == 403 else Access.UNREACHABLE


def _is_of_hub(answer: httpx.Response) -> bool:
    """Whether a hub gave this answer, and not the log-in page of a network or of a proxy."""
    kinds = [each.headers.get("content-type", "") for each in (*answer.history, answer)]
    return not any("html" in kind.lower() for kind in kinds)


async def _is_known(client: httpx.AsyncClient) -> bool | None:
    try:
        answer = await client.get("/api/whoami-v2")
    except (httpx.HTTPError, OSError):
        return None
    if answer.status_code in (401, 403):
        return False
    return True if answer.status_code < 400 else None


_NO_CONNECTION: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
_REDIRECTS: Final = 5
_NOT_FOUND: Final = 404
_ERROR: Final = "x-error-code"
_BY_CODE: Final = {
    # The repository exists and may be read; it only lacks this file.
    "EntryNotFound": Access.VALID,
    "GatedRepo": Access.GATED,
    "RepoNotFound": Access.NOT_FOUND,
    "RevisionNotFound": Access.NO_REVISION,
    "DisabledRepo": Access.FORBIDDEN,
}
"""The hub's `X-Error-Code` (huggingface_hub 1.x)."""
