"""The `bitnet` command. Needs the extra `cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit(
            "error: the bitnet command needs typer; install it with: pip install 'bitnet[cli]'"
        )
    from bitnet.cli.app import app

    app()
