"""What can go wrong, as types a caller acts on.

Rule of this room: a class exists if a caller will act on it; `code` is stable and public (docs/errors.md),
the sentence names what to do next, ids may appear in it, contents never.
"""


class AfterwordError(Exception):
    """Every refusal that a person is meant to read. `code` never changes meaning once released."""

    code = "error"

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__(sentence)
        if code is not None:
            self.code = code


class Malformed(AfterwordError):
    """Bytes that are not what their format says, for whatever low-level reason."""

    code = "malformed"


class Untrusted(AfterwordError):
    """Well-formed, but a seal, signature, hash or commitment does not hold."""

    code = "untrusted"


class WrongPassphrase(Untrusted):
    """The passphrase does not open this keyring."""

    code = "wrong-passphrase"


class Refused(AfterwordError):
    """The request is understood and may not be done; `code` says which rule stood in the way."""

    code = "refused"


class NotFound(AfterwordError):
    """No such thing, or not yours: the two are never told apart."""

    code = "not-found"


class Conflict(AfterwordError):
    """Somebody else was first: read the newest state and try again."""

    code = "conflict"


class StaleVersion(Conflict):
    """A row changed between load and save; the whole transaction is to be run again."""

    code = "stale-version"


class StaleSequence(Conflict):
    """A statement whose `seq` is not above the last one; sign anew with a number above `seen`."""

    code = "stale-sequence"

    def __init__(self, seen: int) -> None:
        super().__init__(
            f"This statement is older than one the server already has (its last is {seen}); sign it anew."
        )
        self.seen = seen


class NotDue(Refused):
    """Time alone would have moved a switch, but its time is not over."""

    code = "not-due"


class WrongOffset(Conflict):
    """An upload that does not continue where the interrupted one stopped; begin again at `held`."""

    code = "wrong-offset"

    def __init__(self, held: int) -> None:
        super().__init__(f"{held} bytes of this object have arrived; continue from there.")
        self.held = held


class NoSpace(Refused):
    """A disk is full. What had been acknowledged is kept, nothing half-written is seen."""

    code = "no-space"


class NotEnoughShares(Refused):
    """Fewer good shares than the roster's threshold."""

    code = "not-enough-shares"

    def __init__(self, have: int, need: int) -> None:
        super().__init__(
            f"{have} of the {need} shares needed are here; ask the others to run `afterword give`, then run this again."
        )
        self.have = have
        self.need = need


class OverQuota(Refused):
    """The deposit would not fit; nothing of it was sent."""

    code = "over-quota"


class Unauthenticated(AfterwordError):
    """No session, or one that has ended: sign in anew."""

    code = "unauthenticated"


class Unreachable(AfterwordError):
    """The other side did not answer; nothing was lost, the same command may be run again."""

    code = "unreachable"


class Damaged(AfterwordError):
    """Stored state does not read. Nothing is guessed in its place, nothing moves."""

    code = "damaged"


class DiskFailed(Damaged):
    """The disk refused what was being written. This process writes nothing more, and ends."""

    code = "disk-failed"


def is_damage(wrong: Exception) -> bool:
    """Whether a row that is not what it should be may have raised this. What passes by itself is none, nor is a disk
    that has failed."""
    if isinstance(wrong, DiskFailed | NoSpace) or getattr(wrong, "code", None) == "busy":
        return False
    return isinstance(wrong, AfterwordError | LookupError | TypeError | ValueError)


class BadUsage(AfterwordError):
    """The command's words do not fit together."""

    code = "usage"
