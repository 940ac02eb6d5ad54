"""The command line: each file of `suite/commands/` is a command, its docstring the help.

Exit status: 0 fine, 1 a check failed or a kernel is slower, 2 wrong usage, 3 nothing to compare,
130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from suite import __version__
from suite.registry import Unusable


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a mistake of the user's ends in one sentence."""
    given = parser().parse_args(arguments)
    try:
        sys.exit(given.go(given) or 0)
    except Unusable as mistake:
        print(f"sparsemark: {mistake}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nsparsemark: interrupted.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = argparse.ArgumentParser(
        prog="sparsemark", description="On this hardware, when does sparsity pay? Measured, with error bars."
    )
    made.add_argument("--version", action="version", version=f"sparsemark {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    folder = import_module("suite.commands")
    for file in iter_modules(folder.__path__):
        command = import_module(f"suite.commands.{file.name}")
        about = (command.__doc__ or "").strip()
        one = commands.add_parser(
            file.name.rstrip("_"),
            help=about.partition("\n")[0],
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.declare(one)
        one.set_defaults(go=command.go)
    return made
