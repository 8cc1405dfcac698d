"""Several processes with one pool: what one has learnt about a candidate holds for the others.

A Valkey or Redis server keeps what is out of rotation and passes it on; ``members`` says what is stored and under which
name, ``store`` speaks to the server, ``sharing`` keeps this process and the server alike. The package decides who
sends the probe of what has expired. It never decides a request: that is the memory of this process alone, and a server
that is slow or gone costs no call anything. Start with ``sharing``.
"""

from understudy.shared.sharing import Sharing, SharingState

__all__ = ["Sharing", "SharingState"]
