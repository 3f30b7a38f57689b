"""A receiver of webhooks on the loopback."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Received = dict[str, Any]


class Webhook:
    """What a receiver has got, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[Received] = []

    def of(self, job_id: str) -> list[Received]:
        """What was said about a job."""
        return [body for body in self.received if body["job_id"] == job_id]


@contextmanager
def webhook() -> Generator[Webhook]:
    """A receiver that takes every POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Webhook(f"http://127.0.0.1:{server.server_port}/hook?token=hush")
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
