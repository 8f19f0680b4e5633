"""How `make install` finds a Python and mends what an interrupt left, with nothing to download."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machines import skip_unless_installable

from tools.notebooks import ROOT

REAL = f'[ "$2" != venv ] || exec "$CP" -R "$TEMPLATE" "$3"; exec "{sys.executable}" "$@"'
BROKEN = "echo 'command not found' >&2; exit 127"  # such as a pyenv shim of a version not chosen
INSTALL = "uv pip install --python .venv/bin/python --compile-bytecode -r requirements.txt"
TOO_NEW = f'[ "$1" != -c ] || exit 1; {REAL}'  # fails the test of its version, and does all else


class Make:
    """A folder with our Makefile, and a PATH that has only what a test puts there."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder, self.path, self.template = folder / "project", folder / "bin", template
        self.folder.mkdir()
        self.path.mkdir()
        shutil.copy(ROOT / "Makefile", self.folder)
        for name in ["requirements.txt", "constraints.txt", "pyproject.toml"]:
            (self.folder / name).write_text("pip\ntorch==1.2.3  # runs the models\n")
        self.add("uv", 'echo "uv $@"')
        for tool in ["rm", "touch", "sed", "uname"]:
            (self.path / tool).symlink_to(str(shutil.which(tool)))

    def add(self, name: str, script: str) -> None:
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.path / name).chmod(0o755)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        gpu = "CPU_ONLY="  # as on a machine with a GPU, unless a test says otherwise
        return subprocess.run(
            [str(shutil.which("make")), gpu, *arguments],
            cwd=self.folder,
            env={
                "PATH": str(self.path),
                "CP": str(shutil.which("cp")),
                "TEMPLATE": str(self.template),
            },
            capture_output=True,
            text=True,
        )

    def works(self) -> bool:
        python = self.folder / ".venv" / "bin" / "python"
        return subprocess.run([python, "-m", "pip", "-V"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment to copy, since making one takes seconds."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def make(tmp_path: Path, template: Path) -> Make:
    return Make(tmp_path, template)


def test_installs_once_and_mends_what_is_broken(make: Make) -> None:
    make.add("python3", BROKEN)
    make.add("python3.12", BROKEN)
    make.add("python3.11", REAL)
    assert INSTALL in make("install").stdout
    assert make.works()
    stamp = (make.folder / ".venv" / ".installed").stat().st_mtime_ns
    again = make("install")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    assert (make.folder / ".venv" / ".installed").stat().st_mtime_ns == stamp

    # as an interrupt leaves it: no stamp, and an environment that cannot install
    (make.folder / ".venv" / ".installed").unlink()
    for package in make.folder.glob(".venv/lib/python*/site-packages/pip"):
        shutil.rmtree(package)
    assert not make.works()
    assert make("install").returncode == 0
    assert make.works()


def test_a_change_of_requirements_installs_into_the_environment_that_is_there(make: Make) -> None:
    make.add("mine", REAL)
    assert make("install", "PYTHON=mine").returncode == 0
    assert make.works()
    (make.folder / ".venv" / "marker").touch()
    (make.folder / "constraints.txt").write_text("pip>=1\n")
    assert INSTALL in make("install", "PYTHON=mine").stdout
    assert (make.folder / ".venv" / "marker").exists()


@pytest.mark.parametrize("script", [BROKEN, TOO_NEW])
def test_a_python_that_does_not_fit_is_refused(script: str, make: Make) -> None:
    make.add("python3", REAL)
    make.add("old", script)
    refused = make("install", "PYTHON=old")
    assert refused.returncode != 0
    assert refused.stderr.startswith("PYTHON=old is not a Python 3.10, 3.11 or 3.12")
    assert not (make.folder / ".venv").exists()


def test_says_so_where_there_is_no_python(make: Make) -> None:
    make.add("python3", BROKEN)
    (make.path / "uv").unlink()
    failed = make("install")
    assert failed.returncode != 0
    assert failed.stderr.startswith("No Python 3.10, 3.11 or 3.12 that can make a virtual env")


def test_uv_fetches_a_python_where_there_is_none(make: Make) -> None:
    make.add("python3", BROKEN)
    make.add("uv", 'echo "uv $@"; [ "$1" != venv ] || "$CP" -R "$TEMPLATE" .venv')
    printed = make("install").stdout
    assert "uv venv --python 3.12 --seed .venv" in printed and INSTALL in printed
    assert make.works()


def test_on_colab_uv_is_installed_and_takes_the_cpu_build(make: Make) -> None:
    (make.path / "uv").rename(make.path / "uv-to-be")
    said = "uv $@${UV_CONSTRAINT-, free}${UV_NO_PROGRESS+, no bars}"
    make.add("uv-to-be", f'echo "{said}"; [ "$1" != venv ] || "$CP" -R "$TEMPLATE" .venv')
    make.add("python3", f'[ "$2" = pip ] || exit 1; /bin/ln -s uv-to-be "{make.path}/uv"')
    printed = make("install", "COLAB_RELEASE_TAG=release", "UV_CONSTRAINT=/nowhere").stdout
    assert "uv venv --python 3.12 --seed .venv" in printed
    assert "--torch-backend cpu -c constraints.txt torch==1.2.3" in printed
    assert f"{INSTALL}, free, no bars" in printed


@pytest.mark.parametrize(
    "arguments, backend",
    [
        (["CPU_ONLY=yes"], "cpu"),
        (["CPU_ONLY="], None),
        (["CPU_ONLY=", "UV_TORCH_BACKEND=cpu"], "cpu"),
        (["CPU_ONLY=yes", "UV_TORCH_BACKEND=cu126"], "cu126"),
    ],
)
def test_without_a_gpu_torch_comes_in_its_cpu_build(
    arguments: list[str], backend: str | None, make: Make
) -> None:
    make.add("python3", REAL)
    printed = make("install", *arguments).stdout
    assert (f"First torch==1.2.3 in its {backend} build" in printed) == bool(backend)
    assert (f"--torch-backend {backend}" in printed) == bool(backend)
    assert printed.splitlines()[-1] == INSTALL


def test_pip_takes_over_where_uv_cannot(make: Make) -> None:
    """An index that does not answer, or that only pip has been told of."""
    make.add("python3", REAL)
    make.add("uv", "exit 1")
    (make.folder / "requirements.txt").write_text("pip\n")
    done = make("install", "CPU_ONLY=")
    assert done.returncode == 0
    assert "uv could not do it" in done.stdout and "Requirement already satisfied" in done.stdout
    make.add("uv", 'case "$*" in *torch*) exit 1; esac; echo "uv $@"')
    shutil.rmtree(make.folder / ".venv")
    (make.folder / "requirements.txt").write_text("torch==1.2.3  # runs the models\n")
    (make.folder / "constraints.txt").write_text("")
    failed = make("install", "CPU_ONLY=yes", "PIP_NO_INDEX=1")
    assert "PyTorch's own index does not answer" in failed.stdout
    assert failed.returncode != 0 and not (make.folder / ".venv" / ".installed").exists()


def test_nothing_is_installed_where_the_servers_have_an_environment(make: Make) -> None:
    done = make("install", f"SERVER_PYTHON={sys.executable}")
    assert done.returncode == 0
    assert not (make.folder / ".venv").exists()


def test_a_small_environment_needs_no_servers(make: Make) -> None:
    make.add("python3", REAL)
    make.add("uv", 'echo "uv $@"; [ "$1" != venv ] || "$CP" -R "$TEMPLATE" build/site/requirements')
    for folder in ["site", "build/site"]:
        (make.folder / folder).mkdir(parents=True)
    (make.folder / "site" / "requirements.txt").write_text("sphinx==1.2.3\n")
    printed = make("build/site/requirements/.installed").stdout
    assert "--python .venv/bin/python build/site/requirements\n" in printed
    assert "-r site/requirements.txt" in printed and "torch" not in printed
    assert (make.folder / "build" / "site" / "requirements" / ".installed").exists()
    assert not (make.folder / ".venv" / ".installed").exists()


def test_help_names_every_target(make: Make) -> None:
    (make.path / "awk").symlink_to(str(shutil.which("awk")))
    printed = make("help").stdout
    [targets] = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)
    for name in set(targets.split()) - {"help", "remake"}:
        assert f"make {name} " in printed, name


@pytest.mark.parametrize("version", ["3.10", "3.12"])  # constraints.txt parts at 3.11
def test_what_is_pinned_goes_together_on_each_python(version: str, tmp_path: Path) -> None:
    skip_unless_installable(0)
    files = ["requirements.txt", "pyproject.toml"]
    for name in [*files, "constraints.txt"]:
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("\n-e .", "\n#"))
    resolve = [sys.executable, "-m", "uv", "pip", "compile", "--python-version", version, *files]
    done = subprocess.run(resolve, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
