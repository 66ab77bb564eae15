"""A group of commands that are imported when they run, not when they are listed."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

from agentcom.cli.errors import UnknownCommand


class LazyGroup(click.Group):
    """Knows its commands by name, module and one line of help."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's own
        if cmd_name not in self._lazy:
            return None
        return click.Command(cmd_name, help=self._lazy[cmd_name][1])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in self._lazy:
            raise unknown(word, list(self._lazy), ctx)
        module, _, attribute = self._lazy[word][0].partition(":")
        return word, getattr(importlib.import_module(module), attribute), args[1:]


class Group(click.Group):
    """A group whose commands keep their order, and which suggests the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            raise unknown(args[0], list(self.commands), ctx)
        return super().resolve_command(ctx, args)


def unknown(word: str, known: list[str], ctx: click.Context) -> UnknownCommand:
    """Return the refusal of a word that is no command here, with the nearest one that is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    path = ctx.command_path
    hint = f"{path} {close[0]}" if close else f"{path} --help"
    return UnknownCommand(f"there is no command {path} {word}", ctx=ctx, hint=hint)
