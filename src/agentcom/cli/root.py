"""The list of commands; what each does is in the module that the list names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from agentcom import __version__
from agentcom.cli.lazy import LazyGroup

_CONTEXT: Final = "--context"
COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "up": ("agentcom.cli.run:up", "Start a hub and this computer's agents."),
        "down": ("agentcom.cli.run:down", "Let running work go on elsewhere, and stop."),
        "status": ("agentcom.cli.run:status", "Show what runs, and how the fleet stands."),
        "service": ("agentcom.cli.service:service", "Start with your login, and after a failure."),
        "upgrade": ("agentcom.cli.upgrade:upgrade", "Install another version, and go on with it."),
        "uninstall": ("agentcom.cli.uninstall:uninstall", "Remove all that was made here."),
        "join": ("agentcom.cli.join:join", "Bring this computer into a fleet."),
        "machine": ("agentcom.cli.join:machine", "Invite, show, drain and remove machines."),
        "agent": ("agentcom.cli.agent:agent", "Show, pause and check agents."),
        "account": ("agentcom.cli.account:account", "Show accounts, and which have no quota left."),
        "submit": ("agentcom.cli.submit:submit", "Give the fleet a task."),
        "limit": (
            "agentcom.cli.limit:limit",
            "Bound what runs or starts at once, and weigh shares.",
        ),
        "task": ("agentcom.cli.task:task", "Show and steer tasks."),
        "group": ("agentcom.cli.group:group", "Show and steer tasks that share a name."),
        "cost": ("agentcom.cli.cost:cost", "Show what agents spent."),
        "budget": ("agentcom.cli.budget:budget", "Bound what is spent."),
        "pause": ("agentcom.cli.pausing:pause", "Give a project, or everything, no new work."),
        "resume": ("agentcom.cli.pausing:resume", "Let what was paused go on."),
        "stop": ("agentcom.cli.pausing:stop", "End at once what runs, and start nothing new."),
        "schedule": ("agentcom.cli.schedule:schedule", "Have tasks submitted by the clock."),
        "msg": ("agentcom.cli.msg:msg", "Write to agents and people, and read your mailbox."),
        "channel": ("agentcom.cli.channel:channel", "Talk where many read."),
        "note": ("agentcom.cli.note:note", "Keep what all shall know, by name."),
        "ask": ("agentcom.cli.ask:ask", "Put questions, see who asks, and answer."),
        "alert": ("agentcom.cli.alert:alert", "See what is wrong, and who looks after it."),
        "notify": ("agentcom.cli.notify:notify", "Say who is told of what, and where."),
        "lock": ("agentcom.cli.lock:lock", "Keep names or files for yourself for a while."),
        "search": ("agentcom.cli.note:search", "Find messages, notes and tasks by words."),
        "mcp": ("agentcom.cli.mcp:mcp", "Offer the hub's tools over standard input and output."),
        "who": ("agentcom.cli.who:who", "Show who is there, and what they do."),
        "user": ("agentcom.cli.access:user", "Invite, list and remove people."),
        "token": ("agentcom.cli.access:token", "Create, list, rotate and revoke tokens."),
        "audit": ("agentcom.cli.audit:audit", "Show who changed what, and prove the log whole."),
        "context": ("agentcom.cli.contexts:context_group", "Show and choose the hub to talk to."),
        "config": ("agentcom.cli.config:config_group", "Show, check and explain settings."),
        "backup": ("agentcom.cli.backup:backup", "Copy the hub's data, and put copies back."),
        "store": ("agentcom.cli.store:store", "Measure, move and tidy up the hub's data."),
        "logs": ("agentcom.cli.logs:logs", "Show what the hub and sidecars here have logged."),
        "doctor": ("agentcom.cli.doctor:doctor", "Exercise everything here, and name each fix."),
        "demo": ("agentcom.cli.demo:demo", "Run a fleet on a real repository, and kill a machine."),
        "chaos": ("agentcom.cli.chaos:chaos", "Break a fleet on purpose, and count what was lost."),
        "simulate": ("agentcom.cli.simulate:simulate", "Break a fleet under virtual time."),
        "mock-llm": ("agentcom.cli.mock_llm:mock_llm", "Serve a scripted model, for tests."),
        "hub": ("agentcom.cli.run:hub", "Run a hub in the foreground."),
        "sidecar": ("agentcom.cli.run:sidecar", "Run a machine in the foreground."),
    }
)


class Root(LazyGroup):
    """Takes `--context NAME` wherever it stands before a `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        at = next((n for n in range(end) if args[n].partition("=")[0] == _CONTEXT), None)
        if at is None:
            return super().parse_args(ctx, args)
        size = 1 if "=" in args[at] else 2
        if at + size > end or args[at].endswith("="):
            raise click.BadOptionUsage(_CONTEXT, f"{_CONTEXT} needs the name of a hub", ctx)
        moved = [*args[at : at + size], *args[:at], *args[at + size :]]
        return super().parse_args(ctx, moved)


@click.command(
    cls=Root,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(_CONTEXT, metavar="NAME", help="The hub to talk to: `agentcom context ls`.")
@click.version_option(__version__, prog_name="agentcom", message="%(prog)s %(version)s")
def root(context: str | None) -> None:
    """Coordinate AI coding agents on many machines.

    Exit codes: 0 done, 1 failed, 2 usage, 3 missing, 4 not allowed, 5 stale or conflict,
    6 hub unreachable, 8 pending, 124 time-out, 130 interrupted.

    \b
    Examples:
      agentcom up
      agentcom submit "Fix the failing test in tests/test_cart.py" --watch
      agentcom task why @last
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
