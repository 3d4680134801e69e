"""Topic patterns with named levels, and paths into JSON: both small and strict, and checked when the file is read.

`tele/{device}/SENSOR` matches what the subscription `tele/+/SENSOR` does, and names the level. `ENERGY.Total` and
`aenergy.by_minute[0]` name one value: keys with dots between them, and [n] for an element, counted from 0.
"""

import re
from typing import Any, NamedTuple

from tallyroot_gateway.errors import InvalidInput

LEVELS_MAX = 32
TEXT_MAX = 256

_NAMED = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_STEP = re.compile(r"([^.\[\]]+)((?:\[[0-9]{1,4}\])*)")


class Pattern(NamedTuple):
    """A topic pattern: each level is a word, or None where any word may stand, with the name that it gets."""

    text: str
    levels: tuple[str | None, ...]
    names: tuple[str | None, ...]

    @property
    def subscription(self) -> str:
        """What a broker is asked for."""
        return "/".join("+" if level is None else level for level in self.levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic; None where it isn't of this pattern."""
        words = topic.split("/")
        if len(words) != len(self.levels):
            return None
        if any(level is not None and level != word for level, word in zip(self.levels, words, strict=True)):
            return None
        return {name: word for name, word in zip(self.names, words, strict=True) if name is not None}


def pattern_of(text: str) -> Pattern:
    """The pattern that a file writes. Raises InvalidInput."""
    words = text.split("/")
    levels: list[str | None] = []
    names: list[str | None] = []
    for word in words:
        named = _NAMED.fullmatch(word)
        if named is None and word != "+" and re.search(r"[{}+#\x00]", word):
            raise InvalidInput(f"topic {text!r}: a level is a word, + or a name such as {{device}}, not {word!r}")
        levels.append(None if named or word == "+" else word)
        names.append(named.group(1) if named else None)
    given = [name for name in names if name is not None]
    if len(words) > LEVELS_MAX or not text or len(text) > TEXT_MAX or len(set(given)) < len(given):
        raise InvalidInput(f"topic {text!r}: use 1 to {LEVELS_MAX} levels, and each name once")
    return Pattern(text, tuple(levels), tuple(names))


def filled(template: str, named: dict[str, str]) -> str:
    """A template such as `{device}/{channel}` with what a topic named. Its names were checked by `check_template`."""
    return _NAMED.sub(lambda found: named[found.group(1)], template)


def check_template(template: str, pattern: Pattern) -> None:
    """Raises InvalidInput for a template with a name that the pattern doesn't give."""
    for name in _NAMED.findall(template):
        if name not in pattern.names:
            raise InvalidInput(f"{template!r} needs {{{name}}}, which is no level of the topic {pattern.text}")


Path = tuple[str | int, ...]
"""The steps to one value: keys and places."""


def path_of(text: str) -> Path:
    """The path that a file writes. Raises InvalidInput."""
    steps: list[str | int] = []
    for part in text.split("."):
        found = _STEP.fullmatch(part)
        if found is None or len(text) > TEXT_MAX:
            raise InvalidInput(f"path {text!r}: use keys with dots between them and [n] for an element, as in a.b[0]")
        steps.append(found.group(1))
        steps += [int(place) for place in re.findall(r"[0-9]+", found.group(2))]
    return tuple(steps)


def value_at(document: Any, path: Path) -> Any:
    """What stands at a path in decoded JSON; None where nothing does."""
    for step in path:
        if isinstance(step, str):
            document = document.get(step) if isinstance(document, dict) else None
        else:
            document = document[step] if isinstance(document, list) and step < len(document) else None
    return document
