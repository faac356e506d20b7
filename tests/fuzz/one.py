"""Fuzz one target with atheris: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`.

What is Python is instrumented: bitnet, and the libraries it gives hostile text to.
"""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["bitnet", "jinja2", "tomllib", "configparser"]):
    from bitnet.tokenizers import sandbox
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    warnings.simplefilter("error")
    # Most templates with a loop would run into the limit, and tell no more than the first one.
    sandbox.MAX_SECONDS = 0.2
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
