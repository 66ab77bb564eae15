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
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    try:
        from agentcom.cli import errors
        from agentcom.cli.root import root

        return errors.run(root, words)
    except (ImportError, SyntaxError) as error:
        # While pip exchanges packages, files are missing, or are of two versions.
        sys.stderr.write(
            f"error: agentcom's own files do not fit together: {error} (incomplete)\n"
            "try: the same again in some seconds, if agentcom is being installed or upgraded;"
            " else agentcom upgrade --resume, or install it anew\n"
        )
        return 1


def _wants_rich_help(words: list[str]) -> bool:
    asked = not words or "--help" in words or "-h" in words
    return asked and sys.stdout.isatty() and "NO_COLOR" not in os.environ


if __name__ == "__main__":
    main()
