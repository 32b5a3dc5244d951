"""What the server has of a dossier, and what this computer's journal believes that it has.

Rule of this room: the server's verified heads are the truth; whatever it lacks is forgotten here and sent again.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli import chain
from cli.chain import SignedHead
from cli.journal import Journal
from vault import envelope, statements, wire
from vault.envelope import VerifyKey
from vault.errors import AfterwordError, Conflict
from vault.statements import Head
from vault.stream import SLICE_SIZE

if TYPE_CHECKING:
    from cli.home import Home
    from cli.remote import Remote
    from cli.sender import Sender


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found different. `finished`: bundles of an interrupted push that are committed now."""

    lost: tuple[int, ...]
    damaged: tuple[int, ...]
    foreign: tuple[int, ...]
    finished: tuple[int, ...]
    kept: int
    """Objects of an unfinished bundle that need not be sent again."""


class Committing:
    """The heads of one dossier, as bundler.Commits wants them."""

    def __init__(
        self, home: "Home", remote: "Remote", dossier: str, key: VerifyKey, journal: Journal
    ) -> None:
        self._home, self._remote, self._dossier, self._key, self._journal = (
            home,
            remote,
            dossier,
            key,
            journal,
        )
        self._newest: SignedHead | None = None
        self._foreign: list[int] = []
        self.replaced = False
        """Another computer has started afresh since."""

    def newest(self) -> tuple[int, str | None]:
        return (self._newest.bundle, self._newest.hash.hex()) if self._newest else (0, None)

    def send(self, head: bytes) -> None:
        said = self._remote.call(
            "POST", f"/dossiers/{self._dossier}/heads", wire.Submission(head.decode()), wire.Acknowledged
        )
        self._remote.acknowledged(self._home, head, said.acknowledgement)
        self._newest = SignedHead(statements.read(head, self._key, Head), envelope.statement_hash(head))

    def catch_up(self) -> None:
        """Another computer of hers has pushed. Conflict if the server went back instead."""
        before = self._newest
        self._follow()
        if self._newest is before:
            raise Conflict(
                "The server takes no head after the newest it shows; run the command again, and tell its operator "
                "if this stays.",
                code="head-conflict",
            )

    def reconcile(self, sender: "Sender | None") -> Reconciled:
        """Compare, forget, adopt, and finish what an interrupted push had ready; without a sender, only look."""
        known = self._journal.bundles()
        lost = self._anchor(known)
        self._follow()
        damaged = self._forget_damaged()
        kept, finished = self._finish(sender) if sender else (0, ())
        return Reconciled(lost, damaged, tuple(self._foreign), finished, kept)

    def _anchor(self, known: dict[int, bytes]) -> tuple[int, ...]:
        """Find the newest head that both sides have; forget what the server lost. The numbers that it lost."""
        last = max(known, default=0)
        if last and (found := self._head_at(last)) is not None and found.hash == known[last]:
            self._newest = found
            return ()
        for head in chain.fetch_heads(self._remote, self._dossier, self._key):
            if known.get(head.bundle) != head.hash:
                break
            self._newest = head
        common = self._newest.bundle if self._newest else 0
        self._journal.forget_after(common)
        return tuple(number for number in sorted(known) if number > common)

    def _head_at(self, number: int) -> SignedHead | None:
        path = f"/dossiers/{self._dossier}/heads?after={number - 1}"
        page = self._remote.call("GET", path, None, wire.Heads)
        if not page.heads:
            return None
        signed = page.heads[0].encode()
        try:
            head = statements.read(signed, self._key, Head)
        except AfterwordError:
            return None  # the whole chain is read next, and says which head is forged
        return SignedHead(head, envelope.statement_hash(signed)) if head.bundle == number else None

    def _follow(self) -> None:
        saved = self._journal.saved_head()
        own = envelope.statement_hash(saved) if saved else None
        for each in chain.fetch_heads(self._remote, self._dossier, self._key, self._newest):
            head = each.head
            if each.hash == own:
                # Its acknowledgement was lost, or this computer stopped before it could note it.
                self._journal.commit(each.bundle, each.hash, head.objects, head.replace)
            else:
                self._journal.adopt(each.bundle, each.hash, head.objects, head.replace)
                self._foreign.append(each.bundle)
                self.replaced |= head.replace is not None
            self._newest = each

    def _forget_damaged(self) -> tuple[int, ...]:
        relied = dict(self._journal.objects_relied_on())
        names = [name for objects in relied.values() for name in objects]
        missing = set(self._remote.missing(self._dossier, names)) if names else set()
        damaged = tuple(
            number for number, objects in sorted(relied.items()) if not missing.isdisjoint(objects)
        )
        if damaged:
            self._journal.forget_chunks_of(damaged)
        return damaged

    def _finish(self, sender: "Sender") -> tuple[int, tuple[int, ...]]:
        """Send what is left of the unfinished bundle's objects, and its head if it was ready."""
        names = self._journal.objects()
        missing = set(self._remote.missing(self._dossier, list(names))) if names else set()
        whole = len(names)
        for place, name in enumerate(names):
            if name not in missing:
                self._journal.arrived([name])
                continue
            path = self._journal.spooled(name)
            if path is None:
                whole = place
                break
            self._journal.arrived(sender.send(name, path, resuming=True))
        self._journal.arrived(sender.finish())
        saved = self._journal.saved_head()
        if saved is not None and whole == len(names):
            head = statements.read(saved, self._key, Head)
            if (head.bundle - 1, head.prev) == self.newest():
                self.send(saved)
                self._journal.commit(head.bundle, envelope.statement_hash(saved), head.objects, head.replace)
                return 0, (head.bundle,)
        self._journal.cut(whole, SLICE_SIZE)
        return whole, ()
