"""How late a release may come: the bound that liveness is held to.

Rule of this room: reckoned from the table and the plan alone; nothing in the program asks for it.
"""

from vault.switch import LATE, Switch, lasts, projected


def latest_release(switch: Switch, now: int) -> int | None:
    """When the release comes at the latest if no letter of hers ever lands; each gap or hold meanwhile adds to it."""
    if switch.due is None:
        return None
    coming = projected(switch, now)
    waited = sum(lasts(stage, switch.plan, None) or 0 for stage, _ in coming if stage in LATE)
    runs_from = now if switch.held is None else max(now, switch.held)
    still_trying = max(now, switch.due) - runs_from if switch.trying else 0
    return coming[-1][1] + waited + still_trying
