"""`bitnet chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from typing import Annotated

import typer

from bitnet import BitNetError, InvalidArgumentError, Model
from bitnet.cli import options
from bitnet.cli.options import Loading, Sampling
from bitnet.cli.outcome import print_error
from bitnet.cli.run import write
from bitnet.model import Options

HELP = """\
/clear   forget the conversation
/exit    leave, as Ctrl-D does
/help    show this
Ctrl-C   stop an answer"""


def chat(
    chat_template: options.ChatTemplate = "auto",
    system: Annotated[
        str | None,
        typer.Option(help="Instructions that come before the conversation.", show_default=False),
    ] = None,
    loading: Loading = Loading(),
    sampling: Sampling = Sampling(),
) -> None:
    """Talk with a model that has a chat template.

    A line is a message; what is piped in is answered line by line. For example:

        bitnet chat -m model.gguf --system "Answer in one sentence."
    """
    with loading.load(chat_template) as model:
        conversation = Conversation(model, system, sampling.options())
        if sys.stdin.isatty():
            typer.echo("/help shows the commands.", err=True)
        for line in read_lines():
            if line == "/exit":
                return
            if line == "/clear":
                conversation.clear()
            elif line == "/help":
                typer.echo(HELP, err=True)
            elif line.startswith("/"):
                typer.echo(f"there is no command {line}; try /help", err=True)
            else:
                reply(conversation, line)


def read_lines() -> Iterator[str]:
    """The lines that are typed or piped in, but for empty ones."""
    prompt = ""
    if sys.stdin.isatty():
        prompt = "> "
        with suppress(ImportError):  # there is none on Windows, where the terminal edits lines
            import readline  # noqa: F401  # gives input() line editing
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            if prompt:
                typer.echo()
            return
        except KeyboardInterrupt:
            if not prompt:
                raise
            typer.echo("\n(Ctrl-D or /exit leaves)", err=True)
            continue
        if line:
            yield line


def reply(conversation: Conversation, message: str) -> None:
    """Print the answer as it comes. Ctrl-C ends the answer, an error this turn."""
    try:
        with suppress(KeyboardInterrupt), closing(conversation.answer(message)) as answer:
            for piece in answer:
                write(piece)
    except BitNetError as error:
        print_error(error)
    write("\n")


class Conversation:
    """The messages so far and the model that answers them.

    When they fill the model's context, the oldest turns are forgotten.
    """

    def __init__(self, model: Model, system: str | None, sampling: Options) -> None:
        if model.tokenizer.chat_template is None:
            raise InvalidArgumentError(
                f"{model.path} has no chat template; choose one with --chat-template, "
                "or use `bitnet run`"
            )
        self._model = model
        self._sampling: Options = {
            **sampling,
            "stop": [*sampling["stop"], *model.tokenizer.chat_stop],
        }
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._turns: list[dict[str, str]] = []

    def clear(self) -> None:
        """Start anew."""
        self._turns = []

    def answer(self, message: str) -> Generator[str]:
        """The answer, piece by piece. As much as was taken of it becomes part of the history."""
        question = {"role": "user", "content": message}
        generation = self._model.start(self._fit(question), **self._sampling)
        text = ""
        try:
            for piece in generation:
                text += piece
                yield piece
        finally:
            generation.close()
            if text:
                self._turns += [question, {"role": "assistant", "content": text}]

    def _fit(self, question: dict[str, str]) -> list[int]:
        """The tokens of the conversation. They leave the answer a quarter or all it may need."""
        context = self._model.context
        room = context - min(self._sampling["max_new_tokens"], context // 4)
        while True:
            ids = self._model.tokenizer.encode_chat([*self._system, *self._turns, question])
            if len(ids) <= room or not self._turns:
                return ids
            del self._turns[:2]
            typer.echo("(the context is full: the oldest turn is forgotten)", err=True)
