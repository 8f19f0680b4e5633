"""Cells that run in a real kernel, for what only a notebook's reader sees."""

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent


class Spy(NotebookClient):
    """Runs a notebook and keeps the texts of all displays, those that are replaced included."""

    lines: list[str]

    def process_message(self, message: Any, *rest: Any) -> Any:
        if "display_data" in message["msg_type"]:
            self.lines.append(message["content"]["data"]["text/plain"])
        return super().process_message(message, *rest)


def in_a_kernel(folder: Path, *sources: str) -> list[tuple[list[NotebookNode], list[str]]]:
    """Run cells; return the outputs of each, and the lines that it showed meanwhile."""
    start = nbformat.v4.new_code_cell(f"import sys; sys.path.insert(0, {str(ROOT)!r})")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    client = Spy(
        nbformat.v4.new_notebook(cells=[start, *cells]),
        timeout=60,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
    )
    ran = []
    with client.setup_kernel():
        for number, cell in enumerate(client.nb.cells):
            client.lines = []
            client.execute_cell(cell, number)
            ran.append((cell.outputs, client.lines))
    return ran[1:]
