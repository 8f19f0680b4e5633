"""Other people's machines, as far as they can be made here: another Python, and Google Colab."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools.badges import slug
from tools.notebooks import ROOT

COLAB = {
    "COLAB_RELEASE_TAG": "release-colab-external",
    # What uv is told there, of files that are not there (googlecolab/colabtools#5237).
    "UV_CONSTRAINT": "/backend-container/containers/requirements.constraints",
    "UV_BUILD_CONSTRAINT": "/backend-container/containers/build.constraints",
    "UV_SYSTEM_PYTHON": "true",
    "UV_PRERELEASE": "if-necessary-or-explicit",
}
# What the run of the tests was told, and is not meant for the runs that they start.
_TOLD = re.compile("MAKE|MFLAGS|PYTEST_|PYTHON|SERVER_PYTHON|TUTORIAL_|UV_TORCH|VIRTUAL_ENV")


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def interpreter(version: str) -> str | None:
    """Find a Python, such as 3.12, that can make an environment: in the PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    known = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")]
    look = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    for python in map(str, filter(None, known)):
        # Running it is the only test: a shim of pyenv may be there and not run.
        found = subprocess.run([python, "-c", look], capture_output=True, text=True)
        if found.stdout.startswith(f"{version} "):
            return found.stdout.split(maxsplit=1)[1].strip()
    return None


def skip_unless_installable(gigabytes: int) -> None:
    """Skip a test that installs so much where there is no room for it, or no package index."""
    if shutil.disk_usage(tempfile.gettempdir()).free < gigabytes * 1e9:
        pytest.skip(f"needs {gigabytes} GB in {tempfile.gettempdir()}")
    ask = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-cache", "-"]
    if subprocess.run(ask, input="packaging\n", capture_output=True, text=True).returncode:
        pytest.skip("the package index does not answer")


def told() -> set[str]:
    """Name the environment variables that are for this run alone."""
    return {name for name in os.environ if _TOLD.match(name)}


def pretend_colab(patch: pytest.MonkeyPatch, kernel: Path, github: Path) -> None:
    """Let notebooks run in this environment's kernel, as on Colab; this repository is GitHub's."""
    patch.setenv("JUPYTER_PATH", str(kernel / "share" / "jupyter"))
    for name, value in COLAB.items():
        patch.setenv(name, value)
    patch.setenv("GIT_CONFIG_COUNT", "1")
    patch.setenv("GIT_CONFIG_KEY_0", f"url.file://{github}.insteadOf")
    patch.setenv("GIT_CONFIG_VALUE_0", f"https://github.com/{slug()}")
    patch.delenv("PYTHONPATH", raising=False)


def set_up_cell() -> str:
    """The set-up cell of all notebooks, as CONTRIBUTING.md has it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"^   ```python\n(.*?)^   ```", text, re.S | re.M)
    assert block
    return textwrap.dedent(block[1]).strip()


def notebook(*sources: str) -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)
