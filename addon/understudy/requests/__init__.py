"""Which requests are calls, what they ask for, and how they are rewritten for a candidate.

``sites`` recognises a call by host, port, method and path; ``rewrite`` takes the tool's credential out and puts the
candidate's credential and model in; ``conversation`` reads what a body says about its session, ``size`` how large it
is; ``sealed`` knows what in it is sealed for one account, and takes it out. The package never chooses a candidate and
never sends anything. Start with ``sites``.
"""

from understudy.requests.conversation import Conversation, short_session
from understudy.requests.sites import Recognised, Sites, normal_host
from understudy.requests.size import tokens_in

__all__ = [
    "Conversation",
    "Recognised",
    "Sites",
    "conversation",
    "model_list",
    "normal_host",
    "rewrite",
    "sealed",
    "short_session",
    "tokens_in",
]
