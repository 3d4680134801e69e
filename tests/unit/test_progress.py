"""A bar on a terminal, a line in a pipe."""

import io
import sys

import pytest

from deploy.cli.terminal import Terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_goes_before_the_next_line_and_a_pipe_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for screen, shown in (
        (Screen(), "\r  ███████████████░░░░░░░░░░░░░░░  half\033[K\r\033[Kdone\n"),
        (io.StringIO(), "  half, in words\ndone\n"),
    ):
        monkeypatch.setattr(sys, "stderr", screen)
        terminal = Terminal(as_json=False)
        terminal.progress(0.5, "half", "half, in words")
        terminal.step("done")
        assert screen.getvalue() == shown
