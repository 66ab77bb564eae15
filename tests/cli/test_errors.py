import errno

import click
import pytest

from agentcom.cli import errors as cli_errors
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("gone"), Exit.MISSING),
        (errors.NotAllowed("no"), Exit.NOT_ALLOWED),
        (errors.NotAuthenticated("who"), Exit.NOT_ALLOWED),
        (errors.Stale("old"), Exit.STALE),
        (errors.Conflict("taken"), Exit.STALE),
        (errors.InvalidInput("title", "too long"), Exit.USAGE),
        (errors.Unavailable("down"), Exit.UNREACHABLE),
        (errors.Timeout("slow"), Exit.TIMEOUT),
        (errors.StorageFull("full"), Exit.FAILED),
        (CommandFailed("waits", exit_code=Exit.PENDING), Exit.PENDING),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (FileNotFoundError(errno.ENOENT, "No such file", "tasks.toml"), Exit.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_end_has_its_exit_code(error: BaseException, code: Exit) -> None:
    @click.command()
    def failing() -> None:
        raise error

    assert cli_errors.run(failing, []) == code


def test_a_refusal_says_what_happened_and_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def failing() -> None:
        raise CommandFailed("no hub is known here", hint="agentcom up", code="no_hub")

    cli_errors.run(failing, [])

    assert capsys.readouterr().err == "error: no hub is known here (no_hub)\ntry: agentcom up\n"
