"""A web server in this process that serves one file, badly if asked to."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


class FileServer:
    """
    Attributes:
        content: of every path.
        ranges: whether parts can be asked for.
        cut_after: bytes after which a connection is closed, for the next answers; None sends all.
        status: of every answer that is an error.
        requests: "Range" header of each request, None without one.
    """

    def __init__(self, content: bytes):
        self.content = content
        self.ranges = True
        self.cut_after: list[int | None] = []
        self.status: int | None = None
        self.requests: list[str | None] = []
        self.url = ""


@contextlib.contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    """A server at ``server.url``, until the end of the block."""
    served = FileServer(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            served.requests.append(asked)
            if served.status is not None:
                self.send_error(served.status)
                return
            first = 0
            if asked and served.ranges:
                first = int(asked.removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                last = len(served.content) - 1
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(served.content)}")
            else:
                self.send_response(200)
            body = served.content[first:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = served.cut_after.pop(0) if served.cut_after else None
            self.wfile.write(body[:cut])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
