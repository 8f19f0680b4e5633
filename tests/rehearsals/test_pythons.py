"""The quick run of all notebooks with the servers on each Python, and with either build of torch.

`make test` knows one Python and one torch. Here each gets a clean clone, `make install` and `pytest
--nbval notebooks/`: an output that depends on either fails, and is to be made not to. Each takes up
to 8 GB, which are gone before the next, and half an hour or more; build/rehearsal/ has a log.

    python -m pytest tests/rehearsals/test_pythons.py -k "3.11 and not cuda"
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from machines import interpreter, run, skip_unless_installable, told

from tools.notebooks import ROOT, code_cells

# What `make install` is told. CPU_ONLY= stands for a machine with a GPU: torch comes from the index
# of all packages, which has the build for CUDA.
CASES: dict[str, list[str]] = {"3.10": [], "3.11": [], "3.12": [], "3.11-cuda": ["CPU_ONLY="]}

pytestmark = pytest.mark.timeout(3 * 3600)


@pytest.fixture
def folder(github: Path, tmp_path: Path) -> Iterator[Path]:
    """A clean clone, which is removed with all that was installed into it."""
    folder = tmp_path / "clone"
    run("git", "clone", "-q", f"file://{github}", folder)
    yield folder
    shutil.rmtree(folder)


class Clone:
    """Runs commands in a clone, all of whose output goes into one log."""

    def __init__(self, folder: Path, log: str) -> None:
        self.folder, self.log = folder, ROOT / "build" / "rehearsal" / log
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    def succeeds(self, *command: object) -> bool:
        variables = {name: os.environ[name] for name in os.environ.keys() - told()}
        with self.log.open("a") as log:
            done = subprocess.run(
                [str(part) for part in command],
                cwd=self.folder,
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return done.returncode == 0

    def must(self, *command: object) -> None:
        if not self.succeeds(*command):
            end = "\n".join(self.log.read_text().splitlines()[-40:])
            said = f"{' '.join(map(str, command))}\n...\n{end}\n({self.log.relative_to(ROOT)})"
            pytest.fail(said, pytrace=False)

    def compare(self, python: object, notebooks: str = "notebooks/") -> None:
        """Compare notebooks with a quick run; as in `make test`, what fails gets another try."""
        nbval = [python, "-m", "pytest", "--nbval", "--color=no"]
        if not self.succeeds(*nbval, "-n", "2", "--dist", "loadfile", notebooks):
            ask = [str(python), "-m", "tools.notebooks", "failed"]
            failed = subprocess.run(ask, cwd=self.folder, capture_output=True, text=True)
            self.must(*nbval, *(failed.stdout.split() or [notebooks]))


@pytest.mark.parametrize("case", CASES)
def test_all_notebooks_show_what_is_stored(case: str, folder: Path) -> None:
    version, _, build = case.partition("-")
    if not (python := interpreter(version)):
        pytest.skip(f"no Python {version} here")
    if build and sys.platform != "linux":
        pytest.skip("CUDA's build of torch is for Linux")
    skip_unless_installable(12)
    clone, own = Clone(folder, f"python-{case}.log"), folder / ".venv" / "bin" / "python"
    clone.must("make", "install", f"PYTHON={python}", *CASES[case])
    clone.must(own, "-c", f"import sys; assert sys.version.startswith('{version}.'), sys.version")
    if build:
        clone.must(own, "-c", "import torch; assert torch.version.cuda, torch.__version__")
    clone.compare(own)


def test_an_output_that_is_not_what_is_stored_fails(folder: Path) -> None:
    [path] = folder.glob("notebooks/16_*.ipynb")  # the quickest
    changed = nbformat.read(path, as_version=4)
    output = nbformat.v4.new_output("stream", name="stdout", text="What no cell prints.\n")
    code_cells(changed)[0].outputs.append(output)
    nbformat.write(changed, path)
    with pytest.raises(pytest.fail.Exception, match="1 failed"):
        Clone(folder, "changed.log").compare(sys.executable, f"notebooks/{path.name}")
