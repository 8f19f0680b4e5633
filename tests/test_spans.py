"""Spans: from an exporter through the collector into a table and a picture."""

import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from helpers import spans as room
from helpers.spans import COLUMNS, collector, draw_traces, spans, tree

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)
    plt.close("all")


def some(*rows: tuple[str, str, str, int, int]) -> pd.DataFrame:
    """Some spans of one trace: id, parent, name, start and end (ms)."""
    each = [("s", "t", *row[:3], row[3] * 10**6, row[4] * 10**6) for row in rows]
    return pd.DataFrame(each, columns=COLUMNS)


def test_spans_arrive_with_their_parents() -> None:
    Path(room.FILE).write_text("of an earlier run\n")
    with collector() as server:
        provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
        provider.add_span_processor(
            SimpleSpanProcessor(OTLPSpanExporter(endpoint=server.url, insecure=True))
        )
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("POST /infer"):
            with tracer.start_as_current_span("POST /infer http receive"):
                pass
            with tracer.start_as_current_span("model"):
                pass
        found = spans(lambda table: len(table) == 2).set_index("name")
        provider.shutdown()
    assert list(found.index) == ["model", "POST /infer"]
    assert found.loc["model", "parent"] == found.loc["POST /infer", "span"]
    assert found.loc["POST /infer", "parent"] == ""
    assert found["trace"].nunique() == 1 and set(found["service"]) == {"test"}
    assert found.loc["POST /infer", "start"] <= found.loc["model", "start"]
    assert "collector" in repr(server) and str(Path.cwd()) not in repr(server)


def test_half_a_line_is_not_read_and_a_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    some(("a", "", "whole", 1, 2)).to_json(room.FILE, orient="records", lines=True)
    with open(room.FILE, "a") as file:
        file.write('{"trace": "t", "na')
    assert list(spans()["name"]) == ["whole"]
    monkeypatch.setattr(room, "TIMEOUT", 0.2)
    with pytest.raises(TimeoutError, match="there are 1"):
        spans(lambda table: len(table) == 2)


def test_no_spans_are_an_empty_table() -> None:
    Path(room.FILE).touch()
    assert list(spans().columns) == COLUMNS and spans().empty


def test_tree_puts_each_below_its_parent() -> None:
    trace = some(
        ("d", "a", "second child", 5, 6),
        ("c", "b", "grandchild", 3, 4),
        ("a", "not here", "root", 1, 9),
        ("b", "a", "first child", 2, 5),
    )
    ordered = tree(trace)
    assert list(ordered["name"]) == ["root", "first child", "grandchild", "second child"]
    assert list(ordered["depth"]) == [0, 1, 2, 1]


def test_a_panel_for_each_trace() -> None:
    one = some(("a", "", "client", 10, 14), ("b", "a", "model", 11, 13))
    draw_traces({"MLServer": one, "Ray Serve": one.iloc[:1]})
    first, second = plt.gcf().axes
    assert [ax.get_title("left") for ax in (first, second)] == ["MLServer", "Ray Serve"]
    bars = [(bar.get_x(), bar.get_width()) for bar in first.patches]  # type: ignore[attr-defined]
    assert bars == [(0, 4), (1, 2)]
    labels = [label.get_text().rstrip() for label in first.get_yticklabels()]
    assert labels == ["client", "  model"]
    assert "milliseconds" in second.get_xlabel() and not first.get_xlabel()


def test_a_trace_without_spans_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_traces({"MLServer": some()})
