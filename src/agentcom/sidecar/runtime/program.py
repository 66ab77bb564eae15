"""What is known of an agent's program before it runs: how to get it, and how to log it in."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from agentcom.sidecar.runtime import accounts, agent_cli
from agentcom.sidecar.runtime.base import Job, Preflight


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One agent CLI."""

    name: str
    install: str
    """The command that installs it."""
    login: str
    """What a person does to log it in."""
    keys: Sequence[str]
    """Variables of which each holds a key of its providers."""
    logins: Sequence[str] = ()
    """Files below the home, of which a login leaves one."""
    login_marks: Mapping[str, bytes] = {}
    """Files below the home that are there anyway, and what a login leaves in them."""
    folder_variable: str = ""
    """Names the folder of `logins`, where that is not the one below the home."""
    server_key: str = ""
    """Holds the key of a model server of one's own; by default the first of `keys` does."""
    capabilities: Sequence[str] = ()
    asks: Sequence[str] = ()
    """The words that make it say its version, if `--version` does not."""
    switches: Mapping[str, str] = {}
    """Variables that keep it from looking things up elsewhere, and from banners."""

    def preflight(self, settings: Mapping[str, str]) -> Preflight:
        """Say whether it answers and has a login or key; nothing is sent anywhere."""
        version = agent_cli.probe(self.binary(settings), *self.asks, switches=self.switches)
        if version.problem:
            fix = f"{self.install}, or set the agent's `binary`"
            return self._not_ready(version.text, version.problem, fix)
        if "base_url" in settings:
            key = settings.get("api_key_env")
            if key is not None and not os.environ.get(key):
                return self._not_ready(version.text, f"{key} is not set", f"export {key}=...")
        elif not self._logged_in(settings):
            return self._not_ready(version.text, "not logged in", self.login)
        account = accounts.find(self.name, settings, os.environ)
        return agent_cli.ready(self.name, version.text, self.capabilities, account)

    def binary(self, settings: Mapping[str, str]) -> str:
        """Return what to execute."""
        return settings.get("binary", self.name)

    def home(self, job: Job) -> str:
        """Return the HOME of a run: a private one beside a model server of one's own."""
        return job.home if "base_url" in job.settings else job.settings.get("home", job.home)

    def key_variable(self, settings: Mapping[str, str]) -> str:
        """Return the variable that holds the key of a model server of one's own."""
        return settings.get("api_key_env", self.server_key or self.keys[0])

    def key(self, job: Job) -> str:
        """Return that key; programs want one, also for a server that asks for none."""
        return job.environment.get(self.key_variable(job.settings)) or "none"

    def _logged_in(self, settings: Mapping[str, str]) -> bool:
        if any(os.environ.get(name) for name in self.keys):
            return True
        own = settings.get("home")
        home = Path(own or Path.home())
        folder = None if own else os.environ.get(self.folder_variable)
        files = [Path(folder, Path(one).name) if folder else home / one for one in self.logins]
        # Where the secret lies in a keychain, a file still names the account.
        marked = (_holds(home / path, mark) for path, mark in self.login_marks.items())
        return any(map(_filled, files)) or any(marked)

    def _not_ready(self, version: str, problem: str, fix: str) -> Preflight:
        return Preflight(runtime=self.name, ready=False, version=version, problem=problem, fix=fix)


class Driver:
    """What the drivers of one program each have in common."""

    program: Program
    usage_spans_session = False

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:  # noqa: ARG002 - the contract
        """Say that it does."""
        return True

    def preflight(self, settings: Mapping[str, str]) -> Preflight:
        """Return whether the program answers and has a login or key."""
        return self.program.preflight(settings)


def _holds(path: Path, mark: bytes) -> bool:
    try:
        return mark in path.read_bytes()
    except OSError:
        return False


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
