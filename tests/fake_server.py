"""A server that behaves, or misbehaves, as its argument says. Run by `tests/test_server.py`."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

behaviour = sys.argv[1]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = behaviour != "never-ready" and time.monotonic() > begin + 0.5
        print("asked", flush=True)
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())

    def log_message(self, *_: object) -> None:
        pass


if behaviour == "dies":
    print("some words before the end", flush=True)
    sys.exit(3)
if behaviour == "dies-in-order":  # and says so at length
    print("Traceback ...\npackage.SomeError: nobody is at home\n" + "goodbye\n" * 40, flush=True)
    sys.exit(0)
if behaviour == "too-slow-at-first":  # as a node of Ray on a busy machine
    tries = Path("tries")
    tries.write_text((tries.read_text() if tries.exists() else "") + "x")
    if len(tries.read_text()) <= int(sys.argv[2]):
        print("Exception: The current node timed out during startup. This could happen", flush=True)
        sys.exit(1)
if behaviour == "ignores-signals":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "floods":
    subprocess.Popen([sys.executable, "-c", "while True: print('flood ' * 20)"])
if behaviour == "leaves-child":  # which goes on when its parent has gone
    child = subprocess.Popen(["sleep", "1000"])
    print("child", child.pid, flush=True)
if behaviour == "holds-a-semaphore":  # one with a name, as those of spawned processes have
    semaphore = multiprocessing.get_context("spawn").Semaphore()
    print("semaphore", semaphore._semlock.name.lstrip("/"), flush=True)  # type: ignore[attr-defined]

begin = time.monotonic()
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
Path("pid").write_text(str(os.getpid()))
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("stopped by SIGINT", flush=True)
