"""The ``secret`` of a credential in the pool file -> its source. A command is looked for here, and never run."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from understudy.codec.masking import shown
from understudy.codec.yaml_nodes import Scalar, Table, Value
from understudy.config import fields
from understudy.config.fields import Absent, Wrong
from understudy.config.problems import Collector
from understudy.config.secrets import aws
from understudy.config.secrets.client import ClientSecret
from understudy.config.secrets.command import TIMEOUT, CommandSecret
from understudy.config.secrets.sources import EnvSecret, FileSecret
from understudy.model import SecretError, SecretMissingError, SecretSource

_SECRET = "write `{env: NAME}`, `{file: PATH}`, `{command: [PROGRAM, ARGUMENT]}` or `client`"
_COMMAND = "write a list such as `[pass, show, claude/team]`"
_DAY = 24 * 3600.0


class SecretReader(Collector):
    """Reads the secrets of one pool file. ``environ``: where variables, the PATH and the home folder are looked up."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        super().__init__(path)
        self.environ = environ
        self.secret_variables: set[str] = set()
        """The variables that hold secrets of this pool; the programs that print others do not see them."""

    def _secret(self, value: Value) -> SecretSource:
        match value:
            case Scalar(text="client"):
                return ClientSecret()
            case Table(entries=entries) if "command" in entries:
                return self._command(value)
            case Table(entries=entries) if entries.keys() == {"aws"}:
                self.secret_variables |= aws.VARIABLES
                return aws.read(self, entries["aws"][1], self._kept_secret)
            case _:
                return self._kept_secret(value)

    def _kept_secret(self, value: Value) -> SecretSource:
        """A secret that is kept somewhere as it is: in a variable, or in a file. Raises Absent when it is not there."""
        match value:
            case Table(entries=entries) if len(entries) == 1 and entries.keys() <= {"env", "file"}:
                [(key, item)] = entries.values()
            case Table():
                raise Wrong("a secret has exactly one source, `env`, `file` or `command`", _SECRET)
            case _:
                raise Wrong("a secret is named here, never written here", _SECRET)
        try:
            if key.text == "env":
                name = fields.text(item, "the name of an environment variable")
                if name.startswith("$"):
                    raise Wrong("a variable is named here, not expanded", "write its name alone, without the $")
                self.secret_variables.add(name)
                return EnvSecret(name, self.environ)
            return self._file_secret(fields.text(item, "the path of a file"), item.line)
        except SecretError as error:
            write = "set it before the proxy starts" if key.text == "env" else "write the secret alone into that file"
            wrong = Absent if isinstance(error, SecretMissingError) else Wrong
            raise wrong(str(error), f"{write}, or name another") from None
        except OSError as error:
            raise Wrong(f"the secret file cannot be read ({error.strerror})", "name another") from None

    def _file_secret(self, written: str, line: int) -> FileSecret:
        path = self._place(written)
        secret = FileSecret(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            self._warn(line, "others can read the secret file", f"run chmod 600 on {shown(str(path))}")
        return secret

    def _command(self, value: Table) -> CommandSecret:
        table = self._table(value, ("command", "ttl", "timeout"), _SECRET)
        line = table.entries["command"][0].line
        words = fields.listing(table.entries["command"][1], _COMMAND).items
        argv = [fields.text(word, "a word of the command") for word in words]
        if not argv:
            raise Wrong("a command without a program", _COMMAND)
        if "/" in argv[0]:
            argv[0] = str(self._place(argv[0]))
        program = shutil.which(argv[0], path=self.environ.get("PATH", os.defpath))
        if program is None:
            self._warn(line, f"there is no program {shown(argv[0])} that can be run", "install it, or name its path")
        elif os.name == "posix" and Path(program).stat().st_mode & 0o022:
            self._warn(line, f"others can change the program {shown(program)}", "run `chmod go-w` on it")
        secret = CommandSecret(
            argv,
            self.path.absolute().parent,
            ttl=self._field(table, "ttl", lambda value: fields.number(value, 1, 365 * _DAY, "seconds"), math.inf),
            timeout=self._field(table, "timeout", lambda value: fields.number(value, 0.1, 600, "seconds"), TIMEOUT),
        )
        secret.hidden = self.secret_variables  # those that are read later as well
        return secret

    def _place(self, written: str) -> Path:
        """A path as written in the pool file: relative to it, for the working directory is whatever folder the proxy
        happens to start in; ``~/`` is the home folder."""
        home = self.environ.get("HOME", "")
        expanded = home + written[1:] if written.startswith("~/") and home else os.path.expanduser(written)
        return self.path.absolute().parent / expanded
