"""The analysts' notebook, without Jupyter: its code cells, and the ten queries in them, for tests and the bench."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "analysts.ipynb"


def notebook() -> dict[str, Any]:
    """The file as it is, nbformat 4."""
    document: dict[str, Any] = json.loads(NOTEBOOK.read_text("utf-8"))
    return document


def code_cells() -> Iterator[tuple[str, str]]:
    """(id, source) of each code cell, in order."""
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code":
            yield cell["id"], "".join(cell["source"])


def queries() -> dict[str, str]:
    """By the cell's id, the text that it gives to `db.sql`: here and nowhere else the ten queries stand."""
    found = {}
    for name, source in code_cells():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "db.sql":
                found[name] = str(ast.literal_eval(node.args[0]))
    return found
