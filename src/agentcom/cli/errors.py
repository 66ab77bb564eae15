"""How a command ends: exit codes, and refusals as `error: what happened (code)`, `try: ...`."""

import contextlib
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import click

from agentcom.model.errors import AgentComError


class Exit(IntEnum):
    """What the exit code says; documented, and the same for every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    NOT_ALLOWED = 4
    STALE = 5
    UNREACHABLE = 6
    PENDING = 8
    TIMEOUT = 124
    INTERRUPTED = 130


_BY_STATUS: Final[Mapping[int, Exit]] = MappingProxyType(
    {
        401: Exit.NOT_ALLOWED,
        403: Exit.NOT_ALLOWED,
        404: Exit.MISSING,
        409: Exit.STALE,
        413: Exit.USAGE,
        422: Exit.USAGE,
        504: Exit.TIMEOUT,
    }
)
_HINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "not_authenticated": "agentcom join with a code of an admin's `agentcom user invite NAME`,"
        " or set AGENTCOM_TOKEN to a valid token",
        "not_allowed": "agentcom status, which names your role",
        "unreachable": "agentcom status, then agentcom up",
        "unavailable": "agentcom up, or agentcom context ls if you mean another hub",
        "config_kept": "agentcom config check, on the hub's computer",
        "illegal_transition": "agentcom task show ID: it moved on",
        "name_taken": "another name (agentcom join: --name NAME)",
    }
)


class CommandFailed(AgentComError):
    """A command's own refusal, with the next thing to try."""

    code = "failed"

    def __init__(
        self, message: str, *, hint: str = "", exit_code: Exit = Exit.FAILED, code: str = ""
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code
        self.label = code or type(self).code


class Unreachable(AgentComError):
    """The hub does not answer."""

    code = "unreachable"
    status = 503
    retryable = True


class UnknownCommand(click.UsageError):
    """A word that is no command."""

    def __init__(self, message: str, *, ctx: click.Context, hint: str) -> None:
        super().__init__(message, ctx=ctx)
        self.hint = hint


def run(command: click.Command, words: Sequence[str]) -> int:
    """Run `command` and return the exit code; refusals are told on stderr."""
    try:
        ended = command.main(list(words), prog_name="agentcom", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return Exit.USAGE
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return say(error.format_message(), "usage", "", Exit.USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return Exit.INTERRUPTED
    except AgentComError as error:
        return refused(error, _listing(command, words) if error.code == "not_found" else "")
    except OSError as error:
        return _system(error)
    return _code(ended)


def refused(error: AgentComError, hint: str = "") -> int:
    """Tell a refusal and return its exit code; `hint` is what to try if nothing better is known."""
    if isinstance(error, CommandFailed):
        return say(error.message, error.label, error.hint, error.exit_code)
    code = say(error.message, error.code, _HINTS.get(error.code, hint), exit_of(error))
    if error.cause:
        click.echo(f"cause: {error.cause} (agentcom logs --cause, where the hub runs)", err=True)
    return code


def _listing(command: click.Command, words: Sequence[str]) -> str:
    """Return the command that lists what the group of a command is about; empty: it has none."""
    if not isinstance(command, click.Group) or not words:
        return ""
    with contextlib.suppress(click.UsageError):
        context = click.Context(command, info_name="agentcom")
        name, group, _ = command.resolve_command(context, list(words))
        if isinstance(group, click.Group) and group.get_command(context, "ls") is not None:
            return f"agentcom {name} ls"
    return ""


def exit_of(error: AgentComError) -> Exit:
    """Return the exit code that a refusal means."""
    if isinstance(error, CommandFailed):
        return error.exit_code
    if error.code in ("unreachable", "unavailable"):
        return Exit.UNREACHABLE
    if error.code == "ambiguous":
        return Exit.USAGE
    return _BY_STATUS.get(error.status, Exit.FAILED)


def say(message: str, code: str, hint: str, exit_code: Exit) -> int:
    """Print `error:` and `try:`, and return `exit_code`."""
    click.echo(f"error: {message} ({code})", err=True)
    if hint:
        click.echo(f"try: {hint}", err=True)
    return exit_code


def _usage(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx is not None else "agentcom"
    hint = error.hint if isinstance(error, UnknownCommand) else f"{path} --help"
    return say(error.format_message().rstrip("."), "usage", hint, Exit.USAGE)


def _system(error: OSError) -> int:
    if error.errno == errno.EPIPE:
        # The reader has left (`| head`): nothing more to say, not even while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    where = f"{error.filename}: " if error.filename else ""
    return say(f"{where}{error.strerror or error}", "system", "agentcom doctor", Exit.FAILED)


def _code(ended: Any) -> int:
    return int(ended) if isinstance(ended, int) else Exit.DONE
