"""Load: what is reported must be what the server saw. A small server of its own answers here."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from wait import wait_until

from helpers import load, summary


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Counting"

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        with self.server.lock:
            self.server.seen.append((self.command, self.headers.get("Content-Type"), body))
            number = len(self.server.seen)
        if self.path == "/slow":
            time.sleep(1)
        if self.path == "/hangs":
            time.sleep(3)
        if self.path == "/drops":
            self.close_connection = True
            return
        self.send_response(503 if self.path == "/every-second" and number % 2 else 200)
        text = b'say "hello",\nyou'
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a client that gave up
            pass


class Counting(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None, bytes]] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Counting]:
    with Counting() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def test_every_request_is_a_row(server: Counting) -> None:
    requests = load(server.url, json={"a": 1}, users=3, seconds=0.5, repeat=3).result()
    assert server.seen == [("POST", "application/json", b'{"a": 1}')] * len(requests)
    assert set(requests["run"]) == {1, 2, 3}
    assert set(requests["status"]) == {200} and set(requests["error"]) == {""}
    assert set(requests["answer"]) == {'say "hello",\nyou'}
    assert (requests["latency"] > 0).all()
    assert abs(requests["start"].iloc[0] - time.time()) < 60
    assert "cpu" not in requests and requests.attrs["client"].keys() == {1, 2, 3}
    table = summary(requests)
    assert table["requests"].sum() == len(requests) and set(table["failures"]) == {"0"}
    assert (table["p50"] > 0).all() and (table["client"] > 0).all()
    assert requests.attrs["arrivals"] == "closed" and (requests["late"] == 0).all()


def test_the_warm_up_is_not_reported(server: Counting) -> None:
    requests = load(server.url, users=1, seconds=0.3, warm_up=0.3).result()
    assert 0 < len(requests) < len(server.seen)
    assert server.seen[0][0] == "GET"


def test_a_run_waits_for_what_is_under_way(server: Counting) -> None:
    requests = load(server.url + "/slow", users=2, seconds=0.2).result()
    assert list(requests["error"]) == ["", ""] and (requests["latency"] > 900).all()


def test_a_with_block_ends_a_load_and_drops_requests_only_after_an_error(server: Counting) -> None:
    with load(server.url + "/slow", users=2, seconds=None) as waits:
        pass
    assert set(waits.result()["error"]) == {""} and len(waits.result()) >= 2
    with pytest.raises(KeyError), load(server.url + "/slow", users=2, seconds=None) as drops:
        raise KeyError
    assert len(drops.result()) < len(waits.result())


@pytest.mark.parametrize(
    "path, options, kind",
    [
        ("/hangs", {"timeout": 0.2}, "timeout"),
        ("/drops", {}, "connection closed"),
        ("/", {"expect": "good bye"}, "wrong answer"),
        (None, {}, "connection refused"),
    ],
)
def test_kinds_of_failures(
    server: Counting, path: str | None, options: dict[str, Any], kind: str
) -> None:
    url = "http://127.0.0.1:1" if path is None else server.url + path
    requests = load(url, seconds=0.5, arrivals="constant", rate=10, **options).result()
    assert len(requests) == 5 and set(requests["error"]) == {kind}
    table = summary(requests, late_ok=True)
    assert table["failures"].item() == f"{len(requests)} {kind}"
    assert table["requests/s"].isna().all() and table["p50"].isna().all()


def test_failures_are_counted_by_kind(server: Counting) -> None:
    requests = load(server.url + "/every-second", users=1, seconds=0.3, expect="hello").result()
    failed = requests[requests["error"] != ""]
    assert set(failed["error"]) == {"HTTP 503"} and set(failed["status"]) == {503}
    assert len(failed) == pytest.approx(len(requests) / 2, abs=1)


def test_stop_ends_it_early(server: Counting) -> None:
    begin = time.monotonic()
    running = load(server.url, users=1, seconds=60)
    time.sleep(0.5)
    running.stop()
    running.stop(wait=True)  # again: does nothing
    assert time.monotonic() - begin < 30
    assert len(running.result()) > 0


@pytest.mark.parametrize("arrivals", [{}, {"arrivals": "constant", "rate": 2}])
def test_stop_drops_what_is_under_way_or_waits_for_it(
    server: Counting, arrivals: dict[str, Any]
) -> None:
    for wait in (False, True):
        server.seen.clear()
        running = load(server.url + "/slow", seconds=None, **arrivals)
        assert wait_until(lambda: len(server.seen) == 1)
        begin = time.monotonic()
        running.stop(wait)
        assert (time.monotonic() - begin > 0.5) == wait
        requests = running.result()
        assert list(requests["error"]) == [""] * wait and (requests["latency"] > 900).all()
        assert len(server.seen) == 1


def test_it_ends_with_the_process_that_asked_for_it(server: Counting) -> None:
    script = f"from helpers import load; load({server.url!r}, seconds=60); import os; os._exit(0)"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert wait_until(lambda: not running())


def running() -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("locust_load.py" in word for word in process.info["cmdline"] or [])
        and '"seconds": 60' in " ".join(process.info["cmdline"])
    ]


def test_a_locustfile_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("locustfile.py").write_text(
        "import time\nfrom locust import User, task\n\n\n"
        "class Caller(User):\n    @task\n    def call(self):\n        time.sleep(0.01)\n"
        "        self.environment.events.request.fire(request_type='gRPC', name='call',\n"
        "            response_time=10, response_length=0, response=self.host, exception=None)\n"
    )
    requests = load("127.0.0.1:50051", locustfile="locustfile.py", seconds=0.5).result()
    assert set(requests["answer"]) == {"127.0.0.1:50051"} and set(requests["latency"]) == {10}


def test_a_broken_locustfile_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("locustfile.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(RuntimeError, match="nothing_of_this_name"):
        load(locustfile="locustfile.py").result()
    Path("locustfile.py").write_text("")
    with pytest.raises(RuntimeError, match="one class of locust users"):
        load(locustfile="locustfile.py").result()


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"users": 0}, "users must be above 0"),
        ({"seconds": -1}, "seconds must be above 0"),
        ({"arrivals": "steady"}, "arrivals must be closed, constant or poisson"),
        ({"rate": 10}, "A rate belongs to the open loop"),
        ({"arrivals": "poisson"}, "A rate belongs to the open loop"),
        ({"arrivals": "poisson", "rate": 0}, "rate must be above 0"),
        ({"url": ""}, "url, or a locustfile"),
        ({"url": "", "locustfile": "none.py"}, "no none.py"),
    ],
)
def test_bad_input_gets_a_clear_error(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        load(**{"url": "http://127.0.0.1:1", **options})
