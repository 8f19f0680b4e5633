"""An HTTP server with two processes that can be killed. Run by `tests/test_failures.py`.

    python mortal_server.py PORT RESPAWN

Each request takes 0.2 s; the answer names the process. Half a second after a death there is a new
one, unless RESPAWN is "never".
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):  # HTTP/1.0: a connection each, so that both get some
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.2)
        text = b"PID %d" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 100


server = Server(("127.0.0.1", int(sys.argv[1])), Handler)  # one socket, which both listen to


def start() -> None:
    if not os.fork():
        server.serve_forever()


start()
start()
while True:
    os.wait()
    if sys.argv[2] != "never":
        time.sleep(0.5)
        start()
