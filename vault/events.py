"""What can happen to a switch.

Rule of this room: an event says what happened and decides nothing; what follows is for `vault/switch.py` to say.
"""

from dataclasses import dataclass

from vault.plans import Plan


@dataclass(frozen=True, slots=True)
class Arm: ...


@dataclass(frozen=True, slots=True)
class CheckIn: ...


@dataclass(frozen=True, slots=True)
class Elapsed: ...


@dataclass(frozen=True, slots=True)
class Pause:
    length: int


@dataclass(frozen=True, slots=True)
class Resume: ...


@dataclass(frozen=True, slots=True)
class Destroy: ...


Move = Arm | CheckIn | Elapsed | Pause | Resume | Destroy


@dataclass(frozen=True, slots=True)
class Landed:
    """One of her addresses accepted the letter of this name (`Notice.letter`)."""

    letter: str


@dataclass(frozen=True, slots=True)
class Tried:
    """A whole dwell has passed in which none of her addresses accepted the stage's letter."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """There was a gap (`era` counts them): late stages begin anew, letter included, at most twice each."""

    era: int


@dataclass(frozen=True, slots=True)
class Replanned:
    """A plan takes effect. Whether it had to cool first is the caller's to know."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Restored:
    """The row came out of a backup: check-ins may be missing from it."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """Somebody has shown this server's own signed release of it: what was released stays released."""


@dataclass(frozen=True, slots=True)
class Held:
    """Colleagues have signed that she was reached: time stands still for `length`. `signers` are different people."""

    length: int
    signers: int = 1


@dataclass(frozen=True, slots=True)
class Crowded:
    """She fell silent together with many others, which speaks of our trouble rather than of hers."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The end of `grace` has come for one of a crowd: this once, the release waits."""


Event = Move | Landed | Tried | Renewed | Replanned | Restored | Recalled | Held | Crowded | Waited
