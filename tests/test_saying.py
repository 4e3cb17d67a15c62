"""Lines that change in place on a terminal, told by a terminal of the test's own."""

import io
import re

from sleeplm_jax.cli import saying
from sleeplm_jax.cli.saying import Screen, say, screen


def shown(text):
    """What a terminal shows after these characters: moving up, and clearing to the end."""
    lines = [""]
    for part in re.split(r"(\x1b\[\d*[AJ]|\n)", text):
        if part == "\n":
            lines.append("")
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            row = len(lines) - 1 - int(up.group(1))
            assert row >= 0 and lines[-1] == ""
            below, lines = lines[row:], lines[:row]
            assert below  # cleared by what follows at once
            lines.append("")
        elif part != "\x1b[J":
            lines[-1] += part
    return lines


def test_a_view_is_rewritten_and_lines_stand_above_it():
    stream = io.StringIO()
    held = Screen(stream)
    held("training")
    held.update(["step 1", "loss 9"])
    held.update(["step 2", "loss 8"])
    held("held-out loss 7")
    held.update(["step 3", "loss 6"])
    assert shown(stream.getvalue()) == ["training", "held-out loss 7", "step 3", "loss 6", ""]
    held.update([])
    held("done")
    assert shown(stream.getvalue())[-4:] == ["step 3", "loss 6", "done", ""]


def test_a_line_wider_than_the_terminal_is_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    Screen(stream).update(["x" * 50])
    assert stream.getvalue() == "x" * 19 + "\n"


def test_a_log_gets_plain_lines(monkeypatch):
    assert screen() is say  # pytest's output is no terminal
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(saying.sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(screen(), Screen)
    monkeypatch.setenv("TERM", "dumb")
    assert screen() is say
