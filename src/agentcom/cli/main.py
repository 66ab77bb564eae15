"""The program `agentcom`: finds the command, and turns how it ended into words and an exit code.

Nothing heavy is imported here: each command's module is imported when it is run, and a command
imports what it needs in its body.
"""

import os
import sys


def main() -> None:
    """Run the command line and exit."""
    words = sys.argv[1:]
    if _wants_rich_help(words):
        from rich_click.patch import patch

        patch()
    from agentcom.cli import errors
    from agentcom.cli.root import root

    sys.exit(errors.run(root, words))


def _wants_rich_help(words: list[str]) -> bool:
    asked = not words or "--help" in words or "-h" in words
    return asked and sys.stdout.isatty() and "NO_COLOR" not in os.environ


if __name__ == "__main__":
    main()
