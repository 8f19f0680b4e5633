"""The rooms of helpers/: none leads back into itself, and none opens another's private drawers."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tools.notebooks import ROOT

ROOMS = sorted((ROOT / "helpers").glob("*.py"))


def imports(file: Path) -> dict[str, list[str]]:
    """The modules of helpers that a file imports, and the names that it takes from each."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            found |= {alias.name: [] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            found[str(node.module).split(".")[1]] = [alias.name for alias in node.names]
    return found


def test_there_is_no_circle() -> None:
    rooms = {file.stem: imports(file).keys() for file in ROOMS if file.stem != "__init__"}
    assert len(rooms) > 10
    list(TopologicalSorter(rooms).static_order())  # raises a CycleError


def test_models_and_interpreter_know_nothing_of_each_other() -> None:
    assert not imports(ROOT / "helpers" / "models.py")
    assert not imports(ROOT / "helpers" / "interpreter.py")


def test_what_is_private_is_not_imported() -> None:
    for file in [*ROOMS, *(ROOT / "tools").glob("*.py")]:
        for room, names in imports(file).items():
            assert not [name for name in names if name.startswith("_")], (file.name, room)


def test_programs_are_run_and_never_import_helpers() -> None:
    programs = list((ROOT / "helpers" / "programs").glob("*.py"))
    assert len(programs) >= 3
    assert not any(imports(program) for program in programs)


def test_the_kernel_imports_neither_framework() -> None:
    frameworks = {"mlserver", "ray", "torch", "transformers", "locust"}
    for file in ROOMS:
        tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        names = [a.name for node in tree if isinstance(node, ast.Import) for a in node.names]
        tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        names += [str(node.module) for node in tree if isinstance(node, ast.ImportFrom)]
        assert not frameworks & {name.split(".")[0] for name in names}, file.name
