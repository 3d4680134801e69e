"""The slow text makes of each vector what is expected: all windows, refusals, orders and deposits, exactly."""

import json
from pathlib import Path

import pytest

from streams.reference.vectors import main, read_document, recounted

FILES = sorted((Path(__file__).parent / "vectors").glob("*.json.gz"))


def test_there_are_vectors() -> None:
    assert len(FILES) == 64


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_the_recount_is_what_is_expected(path: Path) -> None:
    document = read_document(path)
    assert recounted(document) == document["expected"]


def test_the_command_prints_what_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FILES[-1])]) == 0
    assert json.loads(capsys.readouterr().out) == read_document(FILES[-1])["expected"]
