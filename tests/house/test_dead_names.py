"""No name that nothing uses: a function, class, method, constant or import that no line of product or tests reads."""

import ast
import tomllib
from functools import cache
from pathlib import Path

from vulture import Vulture
from vulture.core import Item

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("files", "schemas", "gateway", "streams", "settlement", "till", "agent", "deploy", "tests")
CALLED_BY_DECORATOR = ["@*.command", "@*.callback", "@pytest.*", "@field_validator", "@model_validator"]
ALLOWED = Path(__file__).with_name("not_dead.toml")


@cache
def fields(path: Path) -> frozenset[int]:
    """Lines of a file on which a class declares a field: it leaves as JSON or a column, or comes in as a setting."""
    classes = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef))
    return frozenset(line.lineno for owner in classes for line in owner.body if isinstance(line, ast.AnnAssign))


def unused() -> list[Item]:
    vulture = Vulture(ignore_decorators=CALLED_BY_DECORATOR)
    vulture.scavenge(
        [ROOT / place for place in PLACES if (ROOT / place).exists()], exclude=["*/node_modules/*", "*_pb2.py"]
    )
    found: list[Item] = vulture.get_unused_code(min_confidence=60)
    return [item for item in found if item.first_lineno not in fields(Path(item.filename))]


def test_no_name_is_dead() -> None:
    """One that only the world outside uses stands in not_dead.toml, with who that is; one used again leaves it."""
    groups = tomllib.loads(ALLOWED.read_text())["outside"]
    assert all(group["why"] and group["names"] for group in groups)
    allowed = {name for group in groups for name in group["names"]}
    found = unused()
    dead = [f"{item.filename}:{item.first_lineno} {item.typ} {item.name}" for item in found if item.name not in allowed]
    assert not dead, "nothing uses these:\n" + "\n".join(map(str, dead))
    assert allowed - {item.name for item in found} == set(), "these are used again: take them out of not_dead.toml"
