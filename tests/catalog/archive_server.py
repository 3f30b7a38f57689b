"""An HTTP server on the loopback that has an archive, and misbehaves on request."""

import gzip
import io
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]
CONFIG = b"model:\n  model_name: acme/Thing-1B\ntraining:\n  trainer_type: TRL_SFT\n"


class ArchiveServer:
    """Answers the first request as the first of `answers` says, and so on; then whole.

    Attributes:
        content: What it has.
        answers: How it answers; the last one for good.
        ranges: The Range header of each request.
        statuses: How each request was answered.
        held: An answer that waits goes on when this is set.
        waiting: Set when an answer waits.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"one"'
        self.answers: list[Answer] = [whole]
        self.ranges: list[str | None] = []
        self.statuses: list[int] = []
        self.held = threading.Event()
        self.waiting = threading.Event()
        self.url = ""

    def next_answer(self) -> Answer:
        """How to answer this request."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    archive: ArchiveServer

    def do_GET(self) -> None:
        self.archive.ranges.append(self.headers.get("Range"))
        self.close_connection = True
        try:
            self.archive.next_answer()(self)
        except (BrokenPipeError, ConnectionResetError):
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
        return

    def begin(self, status: int = 200, **headers: str) -> None:
        """Send the status and the headers."""
        self.archive.statuses.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()


@contextmanager
def archive_server(content: bytes) -> Iterator[ArchiveServer]:
    """A server with this content, until the end of the context."""
    archive = ArchiveServer(content)
    handler = type("OneHandler", (Handler,), {"archive": archive})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    archive.url = f"http://127.0.0.1:{server.server_port}/oumi.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield archive
    finally:
        archive.held.set()
        server.shutdown()
        server.server_close()
        thread.join()


def tar_gz(files: Mapping[str, bytes], *more: tarfile.TarInfo, root: str = "oumi-0.9/") -> bytes:
    """An archive of these files, and of members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{root}{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A link in an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def whole(handler: Handler) -> None:
    """All of it, or what the Range header asks for if it is still the same."""
    archive = handler.archive
    headers: dict[str, Any] = {"ETag": archive.etag} if archive.etag else {}
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range") == archive.etag:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        rest, total = archive.content[start:], len(archive.content)
        span = f"bytes {start}-{total - 1}/{total}"
        handler.begin(206, Content_Range=span, Content_Length=str(len(rest)), **headers)
        handler.wfile.write(rest)
        return
    handler.begin(Content_Length=str(len(archive.content)), **headers)
    handler.wfile.write(archive.content)


def cut(handler: Handler) -> None:
    """Half of it, then the connection goes."""
    archive = handler.archive
    headers: dict[str, Any] = {"ETag": archive.etag} if archive.etag else {}
    handler.begin(Content_Length=str(len(archive.content)), **headers)
    handler.wfile.write(archive.content[: len(archive.content) // 2])


def cut_without_length(handler: Handler) -> None:
    """Half of it in chunks, without the last one."""
    handler.begin(Transfer_Encoding="chunked")
    half = handler.archive.content[: len(handler.archive.content) // 2]
    handler.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")


def cut_unnoticed(handler: Handler) -> None:
    """Half of it, as if it were all."""
    handler.begin()
    handler.wfile.write(handler.archive.content[: len(handler.archive.content) // 2])


def silent(handler: Handler) -> None:
    """Send nothing while it is held."""
    handler.archive.waiting.set()
    handler.archive.held.wait(30)


def dripping(handler: Handler) -> None:
    """A byte at a time, for ever."""
    handler.begin(ETag=handler.archive.etag or "")
    while not handler.archive.held.wait(0.01):
        handler.wfile.write(b"x")


def held(handler: Handler) -> None:
    """All of it, once it is no longer held."""
    handler.archive.waiting.set()
    handler.archive.held.wait(30)
    whole(handler)


def html(handler: Handler) -> None:
    """A page, as a captive portal answers."""
    page = b"<html>Please log in</html>"
    handler.begin(Content_Length=str(len(page)), Content_Type="text/html")
    handler.wfile.write(page)


def endless(handler: Handler) -> None:
    """More than anybody wants, without a length."""
    handler.begin()
    while not handler.archive.held.is_set():
        handler.wfile.write(b"x" * 65536)


def status(code: int) -> Answer:
    """No more than a status."""
    return lambda handler: handler.begin(code, Content_Length="0")


def redirect(location: str) -> Answer:
    """It is elsewhere."""
    return lambda handler: handler.begin(302, Location=location, Content_Length="0")


def bomb(size: int) -> bytes:
    """A small archive that unpacks to one file of `size` zeros."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        header = tarfile.TarInfo("oumi-0.9/configs/big.txt")
        header.size = size
        file.write(header.tobuf())
        file.write(b"\0" * size)
    return buffer.getvalue()
