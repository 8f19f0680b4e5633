"""Bad input: what the notebooks' servers answer to requests that nobody should send.

Each server gets its share of ten thousand, the same ones each time. It must answer, and with
something else than a 5xx, must not grow, and must still answer a good request as before. What a
framework gets wrong by itself stands in KNOWN with its reason, and is said in that notebook.

Run all of it in one process: the last test counts what the others sent.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import pytest
import requests
from bad_requests import by_no_library, kinds, many, over_grpc, send
from notebook_servers import SERVERS, Call, Target

from helpers import Server, python_run
from tools.notebooks import ROOT

EACH = 20  # requests of a kind to an address, in either half of a test
PATIENCE = 25.0  # seconds until no answer is none; a good request takes one or two
REPORT = ROOT / "build" / "rehearsal"  # what each kind of request was answered, server by server
GROWTH = 200.0  # MB by which all processes of a server together may grow in the second half
BAD = ["5??", "hung", "broken*", "INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS"]

REPEATS = "FastAPI's 422 repeats the input, "
TAKES_ALL = "it takes what comes, as 02 shows on purpose; how to check it is shown in 02 and 04"
NULL = "null in a text comes through @decode_args as None, and no input at all is a TypeError"
KNOWN = {  # address/kind/outcome: why it is so
    "*FastAPI*/no number/500": REPEATS + "and JSON has neither NaN nor infinity",
    "*FastAPI*/half a character/500": REPEATS + "and UTF-8 has no half characters",
    "*FastAPI*/not UTF-8, as text/500": REPEATS + "as UTF-8, if it came as no JSON",
    "*MLServer*/not UTF-8, as text/500": REPEATS + "as UTF-8, if it came as no JSON",
    "*MLServer*/deep/hung": "the queue to a worker drops what it cannot pickle, as 04 shows",
    "?? Ray Serve, plain/*/500": TAKES_ALL,
    "03 MLServer, Hugging Face/*/500": "the runtime leaves it to the pipeline, as 03 shows",
    "04 MLServer, decode_args/changed/500": "no input at all is a TypeError, as 04 shows",
    "05 MLServer, decode_args/*/500": NULL,
    "1[12] MLServer, decode_args*/*/500": NULL,
    "09 MLServer, stream/*/500": "the answer has begun when the runtime refuses the request",
    "09 gRPC*/bytes/UNKNOWN": "what grpc.aio answers to bytes that are no message",
    "09 gRPC*/changed/UNKNOWN": "what grpc.aio answers to bytes that are no message",
    "09 gRPC Ray Serve, [gt]*/odd text/UNKNOWN": "a string that is no UTF-8 is no message either",
    "09 gRPC MLServer, stream/[bc]*/INTERNAL": "the same, out of a stream: MLServer hands it on",
    "?? Ray Serve/waiting bodies/hung": "a replica has five places, and a request takes one with"
    " its head already",
}


class Tally:
    """How often a kind of request to an address had which outcome, and the first that had it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, address: str, kind: str, outcome: str, request: object = "") -> None:
        key = f"{address}/{kind}/{outcome}"
        if key not in self.first:
            self.first[key] = repr(request)[:300]
        self.counts[key] += 1

    def hung(self, address: str, kind: str) -> bool:
        return f"{address}/{kind}/hung" in self.counts

    def unexpected(self) -> Iterator[str]:
        """Say what is bad and not known."""
        for key, count in self.counts.items():
            bad = any(fnmatchcase(key.rpartition("/")[2], each) for each in BAD)
            if bad and not any(fnmatchcase(key, known) for known in KNOWN):
                yield f"{key}: {count} times, first {self.first[key]}"


everything = Tally()  # what the notebooks' servers were sent
asked: set[str] = set()  # which of them


def said(server: Server, address: Target | Call) -> str:
    """Ask as one should, and take the model's words out of the answer, or out of its events."""
    if isinstance(address, Call):
        good = address.wrap(address.good)
        status, answer = over_grpc(server, address, good, PATIENCE)
        assert status == "OK", f"{address.name}: a good request is answered {status}"
        return answer.decode("latin-1")
    url = server.url + address.path
    got = requests.post(url, json=address.good, headers=address.headers, timeout=PATIENCE)
    got.raise_for_status()
    try:
        events = [json.loads(e.removeprefix("data: ")) for e in got.text.strip().split("\n\n")]
        return "".join(str(each["outputs"][0]["data"][0]) for each in events)
    except (ValueError, TypeError, LookupError):
        return got.text


def memory(server: Server) -> float:
    return float(server.processes()["memory (MB)"].sum())


def trouble(
    name: str,
    server: Server,
    addresses: Sequence[Target | Call],
    tally: Tally,
    *,
    each: int = EACH,
    patience: float = PATIENCE,
    growth: float = GROWTH,
) -> list[str]:
    """Send a server its share, in two halves, and say what is wrong with what it does."""

    def ask(address: Target | Call, kind: str, request: object) -> None:
        if not tally.hung(address.name, kind):  # it is known by then
            tally.add(address.name, kind, send(server, address, request, patience), request)

    before, sizes = [said(server, address) for address in addresses], []
    for seed in (1, 2):
        for address in addresses:
            for kind, strategy in kinds(address).items():
                count = 2 if kind == "oversized" else each
                many(strategy, count, seed, partial(ask, address, kind))
        first = next(address for address in addresses if isinstance(address, Target))
        for kind, outcome in by_no_library(server, first, patience):
            tally.add(name, kind, outcome)
        sizes.append(memory(server))
    found = list(tally.unexpected())
    if sizes[1] - sizes[0] > growth:
        found.append(f"grew from {sizes[0]:.0f} to {sizes[1]:.0f} MB")
    for address, was in zip(addresses, before, strict=True):
        says = address.says if isinstance(address, Target) else address.says.decode("latin-1")
        now = said(server, address)
        if now != was or says not in now:
            found.append(f"{address.name} answered a good request {was!r}, and then {now!r}")
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_stands_what_nobody_should_send(name: str, tmp_path: Path) -> None:
    setup, tally = SERVERS[name], Tally()
    with setup.start(tmp_path) as server:
        found = trouble(name, server, setup.addresses, tally)
    everything.counts += tally.counts
    asked.add(name)
    REPORT.mkdir(parents=True, exist_ok=True)
    lines = [f"{count:6} {key}\n" for key, count in sorted(tally.counts.items())]
    (REPORT / f"bad_input_{name.replace(' ', '_')}.txt").write_text("".join(lines))
    assert not found, "\n".join(found)


def test_it_was_ten_thousand_requests_and_what_is_known_still_happens() -> None:
    if asked != set(SERVERS):
        pytest.skip("only some of the servers were asked")
    for known, reason in KNOWN.items():
        if not any(fnmatchcase(key, known) for key in everything.counts):
            warnings.warn(f"No longer seen, remove it here: {known} ({reason})", stacklevel=1)
    assert everything.counts.total() >= 10_000


FAULTY = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

fault, kept = sys.argv[1], []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        good, answer = body in (b"", b'"Hello"'), b"Hello to you"
        if fault == "leaks":
            kept.append(b"x" * 10**6)
        if fault == "forgets" and kept:
            answer = b"Who are you?"
        if not good:
            kept.append(b"x")
            if fault == "hangs":
                time.sleep(1000)
        self.send_response(200 if good else 500 if fault == "errs" else 400)
        self.send_header("Content-Length", len(answer) + 10 * (fault == "breaks" and not good))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_DELETE = do_BREW = do_POST


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.mark.parametrize(
    "fault, complaint",
    [
        ("none", None),
        ("errs", "a faulty one/changed/500: "),
        ("hangs", "a faulty one/changed/hung: "),
        ("breaks", "a faulty one/changed/broken: "),
        ("leaks", "grew from "),
        ("forgets", "'Hello to you', and then 'Who are you?'"),
    ],
)
def test_a_fault_is_found(fault: str, complaint: str | None, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    address = Target("a faulty one", "/", "Hello", "Hello", "Hello to you")
    with python_run("faulty.py", fault, ready="/", cwd=tmp_path) as server:
        found = trouble("faulty", server, [address], Tally(), each=4, patience=2, growth=30)
    if complaint is None:
        assert found == []
    else:
        assert complaint in "\n".join(found)
