"""What the commands say of bad input, before anything is started."""

from pathlib import Path

import pytest

from helpers import mlserver_start, python_run, serve_run
from helpers.launch import check_import_path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("target", "content", "kind", "says"),
    [
        ("no_colon", "", ValueError, "neither an import path nor a config file"),
        ("missing:app", "", FileNotFoundError, "missing.py, which is not in"),
        ("config.yaml", "", FileNotFoundError, "no config.yaml"),
        ("app:other", "application = 1\n", ValueError, "has no 'other'.*one of: application"),
        ("app:local", "def f():\n    local = 1\n", ValueError, "one of: f"),
        ("app:app", "app = (\n", SyntaxError, "never closed"),
    ],
)
def test_serve_run_says_what_is_wrong_with_its_target(
    target: str, content: str, kind: type[Exception], says: str
) -> None:
    Path("app.py").write_text(content)
    with pytest.raises(kind, match=says):
        serve_run(target)


@pytest.mark.parametrize(
    "content",
    [
        "app = 1",
        "from elsewhere import app",
        "def app(): ...",
        "try:\n    from elsewhere import app\nexcept ImportError:\n    raise",
        "if True:\n    def app(): ...",
    ],
)
def test_an_application_may_come_from_anywhere_in_its_file(content: str) -> None:
    Path("some.py").write_text(content)
    check_import_path(Path.cwd(), "some:app")


def test_no_such_folder() -> None:
    with pytest.raises(FileNotFoundError, match="no folder nowhere"):
        mlserver_start("nowhere")


@pytest.mark.parametrize("name", ["settings.json", "model-settings.json"])
def test_json_that_does_not_parse(name: str) -> None:
    Path(name).write_text("{\n  debug: true  # not JSON\n}")
    with pytest.raises(ValueError, match=f"{name} is not JSON.*line 2.*double quotes"):
        mlserver_start(".")


def test_script_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError, match="no nothing.py"):
        python_run("nothing.py", ready="/")
