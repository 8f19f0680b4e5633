"""The sanitizing patterns hide what differs between two runs, and nothing else."""

import re
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

PATTERNS = get_sanitize_patterns((Path(__file__).parent / "sanitize.cfg").read_text())


def sanitized(text: str) -> str:
    """Do with a text what nbval does with every output."""
    for pattern, replacement in PATTERNS:
        text = re.sub(pattern, replacement, text)
    return text


def test_nbval_reads_every_pattern_of_the_file() -> None:
    assert len(PATTERNS) == 4


@pytest.mark.parametrize(
    "text, expected",
    [
        ("http://127.0.0.1:43211/v2/docs", "http://127.0.0.1:PORT/v2/docs"),
        ("http://localhost:8000", "http://localhost:PORT"),
        ("grpc on 127.0.0.1:8081", "grpc on 127.0.0.1:PORT"),
        ("answered by PID 12345", "answered by PID NUMBER"),
        ("(Worker pid=77)", "(Worker pid=NUMBER)"),
        ("'id': 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'", "'id': 'UUID'"),
        ("ready after 12.3 s", "ready after DURATION"),
        ("p95 350 ms, p50 4.25 ms", "p95 DURATION, p50 DURATION"),
        (
            "Ray Serve · ready · http://127.0.0.1:43211 · PID 12345 · log work/02/serve.log",
            "Ray Serve · ready · http://127.0.0.1:PORT · PID NUMBER · log work/02/serve.log",
        ),
    ],
)
def test_masks_what_varies(text: str, expected: str) -> None:
    assert sanitized(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Le temps est beau aujourd'hui.",  # a prediction
        "Il est 12:30 et il fait 21 degrés ; 3 services, 2 msg.",
        "(200, 'Bonjour !')",
        "422 Unprocessable Entity",
        "503",
        '{"model_name": "translator", "outputs": [{"shape": [1, 1], "datatype": "BYTES"}]}',
        "0.25",
        "12 % of 200 requests",
        "mlserver 1.7.1, ray 2.55.1, Python 3.12",
        "2 replicas, 4.3 M parameters",
        "Ray Serve · stopped · log work/02/serve.log",
        "https://arxiv.org/abs/1910.10683",
        "/v2/models/translator/versions/v1.2/ready",
        "2026-11-22 10:15:00",
    ],
)
def test_keeps_what_is_tested(text: str) -> None:
    assert sanitized(text) == text
