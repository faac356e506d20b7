"""`bitnet run`: what goes where, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bitnet
from tests.cli.conftest import Run, Start
from tests.tiny_model import TEXT

TIMINGS = re.compile(
    r"load [\d.]+ s · first token [\d.]+ s · prompt 5 tokens, \d+/s · new 5 tokens, \d+/s\n"
)


def test_new_text_goes_to_stdout_and_timings_to_stderr(run: Run, model: Path) -> None:
    result = run("run", "-m", model, "-p", "hello")
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    assert TIMINGS.fullmatch(result.stderr), result.stderr


@pytest.mark.parametrize("text", ["hello", "hello\n"])
def test_prompt_comes_from_standard_input(run: Run, model: Path, text: str) -> None:
    result = run("run", "-m", model, input=text)
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    assert TIMINGS.fullmatch(result.stderr), result.stderr


def test_standard_input_that_is_not_text_is_a_usage_error(start: Start, model: Path) -> None:
    process = start("run", "-m", model, encoding=None)
    out, err = process.communicate(b"\xff\xff")
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"error: the text is not valid Unicode")


def test_n_limits_the_new_tokens(run: Run, model: Path) -> None:
    assert run("run", "-m", model, "-p", "hello", "-n", 2).stdout == " été 10€\n"


def test_target_and_threads_are_used(run: Run, model: Path) -> None:
    result = run("run", "-m", model, "-p", "hello", "--target", "scalar", "--threads", 3)
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")


@pytest.mark.parametrize("head", ["stored", "certified", "q8_0"])
def test_every_head_says_the_same_where_nothing_is_close(run: Run, model: Path, head: str) -> None:
    result = run("run", "-m", model, "-p", "hello", "--head", head)
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")


def test_a_seed_makes_the_text_repeatable(run: Run, model: Path) -> None:
    arguments = ("run", "-m", model, "-p", "hello", "--temperature", 50, "--top-k", 0)
    texts = [run(*arguments, "--top-p", 1, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-m", "no/such.gguf"], 1, "error: there is no file or folder no/such.gguf\n"),
        (["-m", __file__], 8, f"error: {__file__}: "),
        (["--target", "z80"], 2, "error: unknown target 'z80'; the targets are "),
        (["--temperature", "-1"], 2, "error: temperature must be 0 or more, not -1.0\n"),
        (["--top-p", "nan"], 2, "error: top_p must be in (0, 1], not nan\n"),
        (["--threads", "0"], 2, "error: threads must be "),
        (["-p", "long " * 20], 1, "error: a prompt of 100 tokens leaves no room in a context of"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    run: Run, model: Path, arguments: list[str], code: int, message: str
) -> None:
    result = run("run", "-m", model, "-p", "hello", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["-n", "many"], ["--no-such-option"], ["surplus"]])
def test_usage_errors_exit_with_2(run: Run, arguments: list[str]) -> None:
    result = run("run", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").stdout == f"bitnet {bitnet.__version__}\n"


def test_a_closed_pipe_ends_it_quietly(start: Start, endless_model: Path) -> None:
    process = start("run", "-m", endless_model, "-p", "hello", "-n", 10**6)
    assert process.stdout is not None
    assert process.stdout.read(len(TEXT)) == TEXT
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to send")
def test_ctrl_c_ends_it_quietly(start: Start, endless_model: Path) -> None:
    process = start("run", "-m", endless_model, "-p", "hello", "-n", 10**6)
    assert process.stdout is not None
    assert process.stdout.read(len(TEXT)) == TEXT
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out.startswith(TEXT) or TEXT.startswith(out)


def test_text_comes_as_it_is_made(start: Start, endless_model: Path) -> None:
    process = start("run", "-m", endless_model, "-p", "hello", "-n", 10**6)
    assert process.stdout is not None
    assert process.stdout.read(1) == TEXT[0]
    assert process.poll() is None


def test_without_typer_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from bitnet.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: the bitnet command needs typer; install it with: pip install 'bitnet[cli]'\n"
    )
