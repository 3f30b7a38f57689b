"""A hub on the loopback that answers, refuses and misbehaves on request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_REASONS = {
    "valid": "200 OK",
    "moved": "307 Temporary Redirect",
    "renamed": "307 Temporary Redirect\r\nLocation: /new/valid/resolve/main/config.json",
    "circle": "302 Found\r\nLocation: /a/circle/resolve/main/config.json",
    "log-in": "200 OK\r\nContent-Type: text/html",
    "to-log-in": "302 Found\r\nLocation: /a/log-in",
    "no-file": "404 Not Found\r\nX-Error-Code: EntryNotFound",
    "gated": "403 Forbidden\r\nX-Error-Code: GatedRepo",
    "gated-anonymous": "401 Unauthorized\r\nX-Error-Code: GatedRepo",
    "missing": "404 Not Found\r\nX-Error-Code: RepoNotFound",
    "missing-anonymous": "401 Unauthorized\r\nX-Error-Code: RepoNotFound",
    "plain-404": "404 Not Found",
    "no-revision": "404 Not Found\r\nX-Error-Code: RevisionNotFound",
    "forbidden": "403 Forbidden",
    "broken": "500 Internal Server Error",
}


@dataclass
class HubServer:
    """What it was asked, and where it is."""

    url: str = ""
    token: str = "hf_good"
    asked: list[str] = field(default_factory=list[str])
    tokens: set[str] = field(default_factory=set[str])
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, by the last word of the repository's name."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                path = head.split(" ", 2)[1]
                self.asked.append(path)
                self.was_asked.set()
                given = [line for line in head.splitlines() if line.lower().startswith("authori")]
                self.tokens.update(line.partition("Bearer ")[2] for line in given)
                await self._reply(path, given, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _reply(self, path: str, given: list[str], writer: asyncio.StreamWriter) -> None:
        if path.startswith("/api/whoami"):
            is_good = any(self.token in line for line in given)
            status = "200 OK" if is_good else "401 Unauthorized"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            asks = path.endswith("/auth-check")
            repository = path.removesuffix("/auth-check").split("/resolve/", maxsplit=1)[0]
            name = repository.rpartition("/")[2]
            if name == "open-readme":
                name = "gated" if asks else "valid"
            if name == "old-mirror":
                name = "plain-404" if asks else "gated"
            if name == "hangs":
                await asyncio.Event().wait()
            if name == "trickles":
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"X-A: b\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            if name == "garbage":
                writer.write(b"\x00\xff not http\r\n\r\n")
            elif name == "closes":
                raise ConnectionError
            else:
                status = _REASONS.get(name, _REASONS["valid"])
                if name == "needs-token" and not given:
                    status = _REASONS["gated-anonymous"]
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()


@asynccontextmanager
async def hub_server() -> AsyncIterator[HubServer]:
    hub = HubServer()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.ensure_future(hub.answer(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    hub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield hub
    finally:
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        server.close()
        await server.wait_closed()
