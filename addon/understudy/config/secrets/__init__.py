"""Where secrets come from: environment, file, command, AWS keys, and the tool's own credential.

A source tells its secret through ``reveal`` alone (law 8). A command is run when its secret is needed, never when the
pool file is read. Start with ``sources``.
"""

from understudy.config.secrets.client import NOBODY, Client, ClientSecret, Owners, Place, own_credentials
from understudy.config.secrets.command import CommandSecret
from understudy.config.secrets.sources import EnvSecret

__all__ = [
    "NOBODY",
    "Client",
    "ClientSecret",
    "CommandSecret",
    "EnvSecret",
    "Owners",
    "Place",
    "own_credentials",
]
