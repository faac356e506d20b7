"""`bitnet chat`, through pipes and through a terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Start
from tests.tiny_model import TEXT, WORDS, write_tiny_model


def test_lines_are_answered_with_the_history_in_view(run: Run, model: Path) -> None:
    result = run("chat", "-m", model, input="one\ntwo\nthree\n")
    answers = ["".join(WORDS[i:]) for i in range(3)]
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == answers


def test_clear_forgets_the_history(run: Run, model: Path) -> None:
    result = run("chat", "-m", model, input="one\n/clear\none\n")
    assert result.stdout.splitlines() == [TEXT, TEXT]


def test_exit_leaves_before_the_rest(run: Run, model: Path) -> None:
    result = run("chat", "-m", model, input="one\n/exit\ntwo\n")
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")


def test_commands_are_not_messages(run: Run, model: Path) -> None:
    result = run("chat", "-m", model, input="/help\n\n/helo\n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "/clear   forget the conversation" in result.stderr
    assert "there is no command /helo; try /help\n" in result.stderr


def test_a_message_that_is_too_long_costs_one_turn(run: Run, tmp_path: Path) -> None:
    path = write_tiny_model(
        tmp_path / "model.gguf", chat_template="{{ messages[-1].content }}", first_words={"!": 1}
    )
    result = run("chat", "-m", path, input=f"{'long' * 20}\nshort!\n")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["", "".join(WORDS[1:])]
    assert result.stderr.startswith("error: a prompt of 80 tokens")


def test_a_model_without_a_chat_template_is_refused(run: Run, tmp_path: Path) -> None:
    result = run("chat", "-m", write_tiny_model(tmp_path / "model.gguf"), input="one\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(
        "model.gguf has no chat template; choose one with --chat-template, or use `bitnet run`\n"
    )


def test_the_oldest_turns_make_room_for_new_ones(run: Run, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    path = write_tiny_model(tmp_path / "model.gguf", chat_template=template)
    result = run("chat", "-m", path, "--system", "S", input="0123456789\n" * 5)
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n" * 5)
    # A question takes 10 tokens, an answer 28 when it is read again, the system 1.
    assert result.stderr.count("the oldest turn is forgotten") == 4


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
class TestTerminal:
    """What a person sees and types."""

    @pytest.fixture
    def terminal(self) -> Iterator[tuple[int, int]]:
        ours, theirs = os.openpty()
        yield ours, theirs
        os.close(ours)

    @staticmethod
    def read(terminal: int, seconds: float = 60) -> bytes:
        """What is on the screen next; nothing if nothing comes."""
        readable, _, _ = select.select([terminal], [], [], seconds)
        return os.read(terminal, 4096) if readable else b""

    def read_until(self, terminal: int, text: str) -> None:
        seen = b""
        while text.encode() not in seen:
            more = self.read(terminal)
            assert more, seen
            seen += more

    def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(
        self, start: Start, endless_model: Path, terminal: tuple[int, int]
    ) -> None:
        ours, theirs = terminal
        arguments = ("chat", "-m", endless_model, "-n", 10**6)
        process = start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.read_until(ours, "> ")
        for _ in range(2):
            os.write(ours, b"hello\n")
            self.read_until(ours, TEXT)
            process.send_signal(signal.SIGINT)
            self.read_until(ours, "\n> ")
        os.write(ours, b"\x04")
        assert process.wait(timeout=60) == 0

    def test_ctrl_c_at_the_prompt_tells_how_to_leave(
        self, start: Start, model: Path, terminal: tuple[int, int]
    ) -> None:
        ours, theirs = terminal
        process = start("chat", "-m", model, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.read_until(ours, "> ")
        seen = b""
        for _ in range(60):  # readline misses a signal that comes just before it waits for a key
            process.send_signal(signal.SIGINT)
            seen += self.read(ours, seconds=1)
            if b"(Ctrl-D or /exit leaves)" in seen:
                return
        pytest.fail(repr(seen))
