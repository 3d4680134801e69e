"""What RULES.md says of itself is true: its numbers are whole, its worked examples are what the core computes."""

import re
from pathlib import Path
from typing import get_args

from schemas.reject import REASONS
from schemas.window import Flag
from streams.core.plausible_usage import time_needed_ms

RULES = (Path(__file__).parents[2] / "streams" / "RULES.md").read_text("utf-8")


def test_the_rules_are_numbered_without_a_gap() -> None:
    numbers = [int(number) for number in re.findall(r"(?m)^([0-9]+)\. ", RULES)]
    assert numbers == list(range(1, 43))


def test_every_reason_and_flag_stands_there() -> None:
    named = set(re.findall(r"`([a-z_]+)`", RULES))
    assert {*REASONS, *get_args(Flag)} <= named


def test_its_needs_are_what_the_core_computes() -> None:
    needs = re.findall(r"need\(([0-9]+), ([0-9]+)\) = ([0-9]+) ms", RULES)
    assert needs
    for usage, capacity, need_ms in needs:
        assert time_needed_ms(int(usage), int(capacity)) == int(need_ms)
