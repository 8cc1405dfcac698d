"""Saved flows and HARs: read one by one in bounded memory, and masked before anything of them is shown.

``flow_file`` reads a file, ``saved_flow`` is what it yields, ``masks`` finds the credentials that it holds. It never
writes a flow. Start with ``flow_file``.
"""

from understudy.flows.flow_file import DUMP, FlowFileError, flow_values, read_flows
from understudy.flows.masks import Masks, credentials_in
from understudy.flows.saved_flow import SavedFlow, SavedReply

__all__ = [
    "DUMP",
    "FlowFileError",
    "Masks",
    "SavedFlow",
    "SavedReply",
    "credentials_in",
    "flow_values",
    "read_flows",
    "traits",
]
