"""Everything a server does for people, each as a workflow that can be run, killed anywhere, and run again.

Rule of this room: a list. Each workflow lives with its kind.
"""

from tests.fire import flows_dossiers, flows_servers, flows_switch
from tests.fire.bases import FLOWS, Planned, life_sign, prepared, the

KINDS = (flows_dossiers, flows_switch, flows_servers)

__all__ = ["FLOWS", "KINDS", "Planned", "life_sign", "prepared", "the"]
