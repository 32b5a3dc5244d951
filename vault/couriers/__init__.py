"""How a letter travels, and one courier that only remembers.

Rule of this room: a courier says what became of a parcel and never raises for it; a reason names no person, no
address and no text of the letter, since reasons rest in clear beside the outbox.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Parcel:
    """One letter to one address. `date` is ms UTC; `message_id` stays the same however often it is carried."""

    message_id: str
    to: str = field(repr=False)
    sender: str
    subject: str = field(repr=False)
    body: str = field(repr=False)
    language: str
    date: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """Somebody else is responsible for the letter now."""


@dataclass(frozen=True, slots=True)
class TemporaryFailure:
    """Try again later: nothing says that this letter cannot arrive. It may have arrived even so."""

    reason: str


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """The other side will not take this letter at this address, today or tomorrow."""

    reason: str


Outcome = Accepted | TemporaryFailure | PermanentFailure


class Courier(Protocol):
    """Carries parcels one after the other, from one thread; what it keeps open between two, it may lose."""

    @property
    def longest(self) -> int:
        """How long one parcel may take in all, in ms."""
        ...

    def carry(self, parcel: Parcel) -> Outcome:
        """Hand the parcel over, waiting a bounded time. At least once: a lost answer is a temporary failure."""
        ...

    def close(self) -> None:
        """Give back what is open. Another carry() opens it anew."""
        ...


class MemoryCourier:
    """Keeps what was accepted in `carried`; `answer` decides, when a test wants another outcome."""

    def __init__(self, answer: Callable[[Parcel], Outcome] | None = None) -> None:
        self.carried: list[Parcel] = []
        self.answer = answer
        self.longest = 0
        self._lock = threading.Lock()

    def carry(self, parcel: Parcel) -> Outcome:
        with self._lock:
            outcome = self.answer(parcel) if self.answer else Accepted()
            if isinstance(outcome, Accepted):
                self.carried.append(parcel)
            return outcome

    def close(self) -> None:
        """There is nothing to close."""
