"""A local web server over a folder that can be told to misbehave, for the tests of fetching."""

import threading
import time
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class ArchiveServer:
    """Serves `folder`; `asked` logs (method, path, Range header).

    Faults by path: `status` a list of answers used up one by one (the last stays); `drop` how many
    bytes of a body are sent before the connection is cut, a list used up likewise. For all:
    `ranges` False: Range is ignored; `lengths` False: no Content-Length is sent; `slow` seconds
    before each 64 kB. A query `list-type=2` is answered as S3 does, `page` keys at a time; `etags`
    overrides what it says of a key, `listing_text` the whole of it.
    """

    def __init__(self, folder):
        self.folder, self.asked = folder, []
        self.status, self.drop, self.etags = {}, {}, {}
        self.ranges, self.lengths, self.slow = True, True, 0.0
        self.page, self.listing_text = 1000, None
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                server.answer(self)

            def do_GET(self):
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def gets(self, path=""):
        return [(p, r) for method, p, r in self.asked if method == "GET" and path in p]

    def answer(self, request):
        parts = urlsplit(request.path)
        path = unquote(parts.path).lstrip("/")
        wanted = request.headers.get("Range")
        self.asked.append((request.command, path, wanted))
        planned = self.status.get(path)
        if planned and request.command == "GET":
            return self.say(request, planned.pop(0) if len(planned) > 1 else planned[0], b"")
        if parse_qs(parts.query).get("list-type") == ["2"]:
            return self.say(request, 200, self.listing(path, parse_qs(parts.query)))
        file = self.folder / path
        if not file.is_file():
            return self.say(request, 404, b"")
        content, status, headers = file.read_bytes(), 200, {}
        if wanted and self.ranges and content:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            total = len(content)
            if int(first) >= total:
                headers["Content-Range"] = f"bytes */{total}"
                return self.say(request, 416, b"", headers)
            stop = min(int(last) + 1, total) if last else total
            content, status = content[int(first):stop], 206
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{total}"
        self.say(request, status, content, headers, path)

    def say(self, request, status, body, headers=None, path=None):
        request.send_response(status)
        if self.lengths or path is None:
            request.send_header("Content-Length", str(len(body)))
        else:
            request.send_header("Connection", "close")
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        cut = self.drop.get(path)
        if cut:
            request.wfile.write(body[: cut.pop(0)])
            request.wfile.flush()
            request.close_connection = True
            request.connection.close()
            return
        try:
            for at in range(0, len(body), 1 << 16):
                if self.slow:
                    time.sleep(self.slow)
                request.wfile.write(body[at : at + (1 << 16)])
        except OSError:
            pass  # the client was killed: the test meant it

    def listing(self, bucket, query):
        if self.listing_text is not None:
            return self.listing_text.encode()
        root = self.folder / bucket
        prefix, after = query["prefix"][0], query.get("continuation-token", [""])[0]
        files = sorted(p for p in root.rglob("*") if p.is_file())
        keys = [k for k in (p.relative_to(root).as_posix() for p in files) if k > after]
        keys = [key for key in keys if key.startswith(prefix)]
        page, more = keys[: self.page], len(keys) > self.page
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{(root / key).stat().st_size}</Size><ETag>"
            f"&quot;{self.etags.get(key) or md5((root / key).read_bytes()).hexdigest()}&quot;"
            "</ETag></Contents>" for key in page
        )  # fmt: skip
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        ).encode()
