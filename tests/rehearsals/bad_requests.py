"""Requests that nobody should send: made by Hypothesis, or part by part over a socket."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
import requests
from notebook_servers import Call, Target

from helpers import Server

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

GONE = object()
TEXT = st.text(max_size=60)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
ODD = VALUE | st.sampled_from(["BYTES", "INT64", "FP32", "BOOL", -1, 2**40, GONE])
NO_NUMBER = st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
# Not 1000 deep: Python before 3.12 reads that and cannot pickle it, and MLServer never answers it.
DEPTH = st.integers(10, 900) | st.integers(1500, 30_000)


def nested(opening: str, depth: int) -> str:
    return opening * depth + "1" + {"[": "]", '{"a":': "}"}[opening] * depth


FRAGMENTS = {  # what stands where a value should
    "other JSON": VALUE.map(json.dumps).map(str.encode),
    "odd text": TEXT.map(json.dumps).map(str.encode),
    "no number": (NO_NUMBER | st.integers(20, 6000).map(lambda n: "9" * n)).map(str.encode),
    "half a character": st.integers(0xD800, 0xDFFF).map(lambda code: f'"\\u{code:x}"'.encode()),
    "deep": st.builds(nested, st.sampled_from(["[", '{"a":']), DEPTH).map(str.encode),
    "not UTF-8": st.binary(max_size=40).map(lambda odd: b'"\xff' + odd + b'"'),
}


def places(value: object) -> Iterator[tuple[Any, ...]]:
    """Walk through JSON: the way to each value in it, itself included."""
    yield ()
    inside: Any = enumerate(value) if isinstance(value, list) else ()
    for key, each in value.items() if isinstance(value, dict) else inside:
        yield from ((key, *rest) for rest in places(each))


def change(value: Any, place: tuple[Any, ...], odd: object) -> Any:
    """Copy JSON with one value in it replaced, or gone."""
    if not place:
        return None if odd is GONE else odd
    copied, (key, *rest) = value.copy(), place
    if odd is GONE and not rest:
        del copied[key]
    else:
        copied[key] = change(value[key], tuple(rest), odd)
    return copied


def kinds(address: Target | Call) -> Mapping[str, Any]:
    """For each kind of bad request, the strategy that makes it."""
    return _of_http(address) if isinstance(address, Target) else _of_grpc(address)


def _of_http(target: Target) -> dict[str, Any]:
    """Requests as method, path, content type and body, or just as bytes."""
    post, path, is_json = st.just("POST"), st.just(target.path), st.just("application/json")
    good = json.dumps(target.good).encode()
    before, after = good.split(json.dumps(target.text).encode(), 1)
    bodies = {
        name: fragment | fragment.map(lambda value: before + value + after)
        for name, fragment in FRAGMENTS.items()
    }
    places_in = st.sampled_from(list(places(target.good)))
    changed = st.builds(change, st.just(target.good), places_in, ODD)
    bodies["changed"] = changed.map(json.dumps).map(str.encode)
    bodies["bytes"] = st.binary(max_size=200)
    bodies["oversized"] = st.integers(2**20, 2**23).map(lambda n: b'{"x": "' + b"x" * n + b'"}')
    no_json = st.sampled_from(["text/plain", "image/png", "multipart/form-data", "JSON", "*/*"])
    any_type = no_json | st.sampled_from(["application/json", "application/a+json"])
    charset = st.sampled_from(["", ";", "; charset=utf-16", "; charset=nobody", "; a=b; a=b"])
    elsewhere = TEXT.map(lambda end: f"{target.path}/{end}")
    method = st.sampled_from(["GET", "PUT", "DELETE", "BREW", "POST"])
    return {
        **{name: st.tuples(post, path, is_json, body) for name, body in bodies.items()},
        "not UTF-8, as text": st.tuples(post, path, no_json, FRAGMENTS["not UTF-8"]),
        "content type": st.tuples(
            post, path, st.tuples(any_type, charset).map("".join), st.just(good)
        ),
        "wrong way": st.tuples(method, elsewhere, is_json, st.just(good)),
        "no HTTP": st.binary(max_size=300),
    }


def _of_grpc(call: Call) -> dict[str, Any]:
    """Requests as the bytes of a message."""
    good = call.wrap(call.good)
    return {
        "bytes": st.binary(max_size=100),
        "changed": st.builds(
            lambda at, new: good[:at] + bytes([new]) + good[at + 1 :],
            st.integers(0, len(good) - 1),
            st.integers(0, 255),
        ),
        "odd text": (st.binary(max_size=60) | TEXT.map(str.encode)).map(call.wrap),
    }


def many(strategy: Any, count: int, seed: int, send: Callable[[Any], None]) -> None:
    """Let Hypothesis make so many different requests, for a seed always the same, and send them."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],  # nothing fails here, so there is nothing to shrink
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def one(request: Any) -> None:
        send(request)

    one()


def send(server: Server, address: Target | Call, request: Any, patience: float) -> str:
    """Send a request of one of the `kinds`; return the status, or what came instead of one."""
    if isinstance(address, Call):
        return over_grpc(server, address, request, patience)[0]
    if isinstance(request, bytes):
        return by_hand(server.ports["http"], request, patience=patience)
    method, path, content_type, body = request
    headers = {**address.headers, "Content-Type": content_type}
    try:
        answer = requests.request(
            method, server.url + path, data=body, headers=headers, timeout=patience
        )
    except requests.Timeout:
        return "hung"
    except requests.RequestException:
        return "broken"
    return str(answer.status_code)


def over_grpc(server: Server, call: Call, sent: bytes, patience: float) -> tuple[str, bytes]:
    """Send a message, and return the status and what came back."""
    with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        method = channel.stream_stream(call.method)  # on the wire, one message is a stream of one
        try:
            return "OK", b"".join(method(iter([sent]), metadata=call.metadata, timeout=patience))
        except grpc.RpcError as error:
            code = str(error.code().name)
            return "hung" if code == "DEADLINE_EXCEEDED" else code, b""


def by_hand(port: int, *parts: bytes, patience: float, leave: bool = True) -> str:
    """Send parts, a tenth of a second apart, close this half, and return the status, if any."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
            for number, part in enumerate(parts):
                time.sleep(0.1 if number else 0)
                connection.sendall(part)
            if leave:
                connection.shutdown(socket.SHUT_WR)
            line = connection.makefile("rb").readline()
    except TimeoutError:
        return "hung"
    except OSError:
        return "closed"
    return line.split()[1].decode() if line.startswith(b"HTTP/1.") else "closed"


def by_no_library(server: Server, target: Target, patience: float) -> Iterator[tuple[str, str]]:
    """Half-closed, contradictory, slow and waiting senders: the kind of each, and its end."""
    body, port = json.dumps(target.good).encode(), server.ports["http"]
    lines = [f"POST {target.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in target.headers.items()]

    def head(*more: str) -> bytes:
        return "\r\n".join([*lines, *more, "", ""]).encode()

    length = f"Content-Length: {len(body)}"
    whole = head(length, "Connection: close") + body
    half_a_head, half_a_body = whole[:40], whole[: -(len(body) // 2)]
    for kind, parts in {
        "half-closed": [whole],
        "half a head": [half_a_head],
        "half a body": [half_a_body],
        "two lengths": [head(length, "Content-Length: 5"), body],
        "negative length": [head("Content-Length: -1"), body],
        "no chunks": [head("Transfer-Encoding: chunked"), b"zz\r\n", body],
        "long header": [head(length, "X: " + "x" * 200_000), body],
    }.items():
        yield kind, by_hand(port, *parts, patience=patience)
    slowly = [whole[start : start + 20] for start in range(0, len(whole), 20)]
    came = by_hand(port, *slowly, patience=patience, leave=False)
    yield "slow", came if came == "200" else f"broken after {came}"  # who waits must get it
    good = ("POST", target.path, "application/json", body)
    for kind, part in {"waiting heads": half_a_head, "waiting bodies": half_a_body}.items():
        with ExitStack() as stack:  # twenty never send the rest; can somebody else be served?
            for _ in range(20):
                waiting = socket.create_connection(("127.0.0.1", port), timeout=patience)
                stack.enter_context(waiting).sendall(part)
            time.sleep(0.5)
            yield kind, send(server, target, good, min(patience, 15))
