"""`bitnet tokenize`, and --tokenizer and --chat-template of the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitnet.models.tokenizer_files import open_tokenizer
from tests.cli.conftest import Run, Start
from tests.tiny_model import EOS, TEXT, WORDS, write_tiny_model


def test_one_token_a_line(run: Run, model: Path) -> None:
    result = run("tokenize", "-m", model, "--text", "a é\n")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "97\t'a'\n32\t'Ġ'\n195\t'Ã'\n169\t'©'\n10\t'Ċ'\n"


def test_json(run: Run, model: Path) -> None:
    result = run("tokenize", "-m", model, "--text", "a<eos>", "--special", "--json")
    assert json.loads(result.stdout) == {
        "tokens": {"ids": [97, EOS], "pieces": ["a", "<eos>"], "count": 2},
        "gen_policy": {"bos": False},
        "tokenizer": {
            "type": "byte-level",
            "origin": str(model),
            "bos": None,
            "eos": EOS,
            "ends": [EOS],
        },
    }


def test_the_bundled_model_begins_with_its_begin_token(run: Run) -> None:
    def ids(*arguments: str) -> list[int]:
        result = run("tokenize", "--text", "Once upon", "--json", *arguments)
        report = json.loads(result.stdout)
        assert report["gen_policy"]["bos"] == ("--no-bos" not in arguments)
        return [report["tokenizer"]["bos"], *report["tokens"]["ids"]]

    bos, first, *rest = ids()
    assert first == bos
    assert ids("--no-bos") == [bos, *rest]


def test_a_file_counts_to_its_last_byte(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"a\r\n\n")
    report = json.loads(run("tokenize", "-m", model, "--file", file, "--json").stdout)
    assert report["tokens"]["ids"] == [97, 13, 10, 10]


def test_standard_input_keeps_its_line_ends_but_the_last(start: Start, model: Path) -> None:
    process = start("tokenize", "-m", model, "--json", encoding=None)
    out, err = process.communicate(b"a\r\nb\n\r\n")
    assert (process.returncode, err) == (0, b"")
    assert json.loads(out)["tokens"]["ids"] == [97, 13, 10, 98, 10]


def test_a_tokenizer_without_its_model(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    open_tokenizer(model)._encoder.save(str(file))
    report = json.loads(run("tokenize", "--tokenizer", file, "--text", "a", "--json").stdout)
    assert report["tokens"]["ids"] == [97]
    assert report["tokenizer"]["origin"] == str(file)


@pytest.mark.parametrize("text", ["97 256 10", "[97, 256,\n10]", "97\t256\t10\n"])
def test_decoding(run: Run, model: Path, text: str) -> None:
    assert run("tokenize", "-m", model, "--decode", input=text).stdout == f"a{WORDS[0]}\n\n"
    report = json.loads(run("tokenize", "-m", model, "--decode", "--json", "--text", text).stdout)
    assert report["text"] == f"a{WORDS[0]}\n"
    assert report["tokens"]["ids"] == [97, 256, 10]


def test_decoding_shows_control_tokens_when_asked(run: Run, model: Path) -> None:
    arguments = ("tokenize", "-m", model, "--decode", "--text", f"97 {EOS}")
    assert run(*arguments).stdout == "a\n"
    assert run(*arguments, "--special").stdout == "a<eos>\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--text", "a", "--file", "b"], 2, "--text and --file exclude each other"),
        (["--file", "no/such"], 2, "cannot read no"),
        (["--decode", "--text", "1 x2"], 2, "'x2' is no token id"),
        (["--decode", "--text", "-1"], 2, "'-1' is no token id"),
        (["--decode", "--text", f"{EOS + 1}"], 2, f"there is no token {EOS + 1}; ids are 0 to"),
        (["--text", "a", "--tokenizer", "no/such"], 1, "there is no file or folder no"),
    ],
)
def test_errors(run: Run, model: Path, arguments: list[str], code: int, message: str) -> None:
    result = run("tokenize", "-m", model, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"error: {message}")


def test_text_that_is_not_utf8(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"a\xff")
    result = run("tokenize", "-m", model, "--file", file)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {file} is not UTF-8")


def test_run_takes_a_tokenizer(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    open_tokenizer(model)._encoder.save(str(file))
    result = run("run", "-m", model, "--tokenizer", file, "-p", "hello")
    assert (result.exit_code, result.stdout) == (0, f"{TEXT}\n")
    result = run("run", "-m", model, "--tokenizer", tmp_path / "no", "-p", "hello")
    assert (result.exit_code, result.stdout) == (1, "")


def test_chat_takes_a_template(run: Run, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.gguf", first_words={"e": 1, ":": 2})
    template = tmp_path / "template"
    template.write_text("{{ messages[-1].content }}e")
    for choice, answer in ((template, WORDS[1:]), ("raw", WORDS), ("instruct", WORDS[2:])):
        result = run("chat", "-m", model, "--chat-template", choice, input="one!\n")
        assert (result.exit_code, result.stderr, result.stdout) == (0, "", "".join(answer) + "\n")
    result = run("chat", "-m", model, "--chat-template", "no-such", input="one\n")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: chat template 'no-such' is neither a file nor one of")
