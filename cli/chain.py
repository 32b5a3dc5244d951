"""Rosters and heads as the server shows them, each verified against its journalist's key and the one before.

Rule of this room: nothing leaves it unverified; a chain that was forged, shortened or forked is refused by name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vault import envelope, identity, statements, wire
from vault.envelope import VerifyKey
from vault.errors import AfterwordError, Malformed, Untrusted
from vault.identity import ContactCard
from vault.rosters import FORGED, FORKED, ROLLED_BACK, read_chain
from vault.statements import Head, Roster

if TYPE_CHECKING:
    from cli.remote import Remote


@dataclass(frozen=True, slots=True)
class SignedRoster:
    """A roster whose signature and place in its chain held."""

    roster: Roster
    hash: bytes
    envelope: bytes

    def cards(self) -> tuple[ContactCard, ...]:
        """The collaborators' cards, in the roster's order."""
        return tuple(identity.read_card(each.card.encode()) for each in self.roster.collaborators)


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head whose signature and place in its chain held."""

    head: Head
    hash: bytes

    @property
    def bundle(self) -> int:
        return self.head.bundle


def fetch_rosters(
    remote: "Remote", dossier: str, journalist: ContactCard, known: Sequence[bytes] = ()
) -> list[SignedRoster]:
    """Every epoch from 1 on. `known`: envelopes verified before, of which the server must show the same.

    Untrusted with code `roster-forged`, `roster-rolled-back` or `roster-forked`.
    """
    said = remote.call("GET", f"/dossiers/{dossier}/rosters", None, wire.Rosters)
    shown = [each.encode() for each in said.rosters]
    rosters = read_rosters(shown, journalist.verify_key, dossier)
    if len(shown) < len(known):
        raise Untrusted(
            f"The server shows {len(shown)} rosters of dossier {dossier[:8]} and {len(known)} were seen here before: "
            "it has gone back to an older state. Ask its operator before you do anything.",
            code=ROLLED_BACK,
        )
    if any(old != new for old, new in zip(known, shown, strict=False)):
        raise Untrusted(
            f"The server shows another roster of dossier {dossier[:8]} than before; do nothing with this dossier "
            "until you have spoken with the others.",
            code=FORKED,
        )
    return rosters


def read_rosters(envelopes: Sequence[bytes], key: VerifyKey, dossier: str) -> list[SignedRoster]:
    """By the rules that servers go by too. Untrusted with code `roster-forged`, whatever is wrong with it."""
    try:
        chain = read_chain(envelopes, key, dossier)
    except (Malformed, Untrusted) as wrong:
        raise Untrusted(
            f"The rosters of dossier {dossier[:8]} are not what its journalist signed for it; do nothing with this "
            f"dossier until you have spoken with them. ({wrong})",
            code=FORGED,
        ) from None
    return [
        SignedRoster(roster, envelope.statement_hash(signed), signed)
        for roster, signed in zip(chain, envelopes, strict=True)
    ]


def fetch_heads(
    remote: "Remote", dossier: str, key: VerifyKey, after: SignedHead | None = None
) -> Iterator[SignedHead]:
    """The heads above `after`, oldest first, page by page; each is verified before the next is asked for."""
    last = after
    while True:
        number = last.bundle if last else 0
        page = remote.call("GET", f"/dossiers/{dossier}/heads?after={number}", None, wire.Heads)
        for signed in page.heads:
            last = read_head(signed.encode(), key, dossier, last)
            yield last
        if not page.more:
            return
        if not page.heads:
            raise Untrusted("The server says that there are more heads and shows none.", code="head-forged")


def read_head(signed: bytes, key: VerifyKey, dossier: str, before: SignedHead | None) -> SignedHead:
    """The head that follows `before`. Untrusted with code `head-forged`."""
    expected = before.bundle + 1 if before else 1
    try:
        head = statements.read(signed, key, Head)
    except (Malformed, Untrusted):
        raise _forged_head(expected, "the journalist has not signed it") from None
    if head.dossier != dossier:
        raise _forged_head(expected, "it belongs to another dossier")
    if head.bundle != expected or head.prev != (before.hash.hex() if before else None):
        raise _forged_head(expected, "it does not follow the head before it")
    if head.replace is not None and head.replace > head.bundle:
        raise _forged_head(expected, "it starts afresh from a bundle that is still to come")
    return SignedHead(head, envelope.statement_hash(signed))


def check_reaches(heads: Sequence[SignedHead], number: int | None, hash: str, witness: str) -> None:
    """The chain contains the head that `witness` knew. Untrusted with code `head-rolled-back` or `head-forked`.

    `number` None: only the hash is known, as in a check-in.
    """
    if any(each.hash.hex() == hash and number in (None, each.bundle) for each in heads):
        return
    if number is not None and number <= len(heads):
        raise Untrusted(
            f"Head {number} is not the one that {witness}: the server shows a forked history. "
            "Speak with the others before you believe this archive.",
            code="head-forked",
        )
    raise Untrusted(
        f"The newest head here is number {len(heads)}, and it is older than the one that {witness}: "
        "the server has gone back, or holds something back. Ask its operator; --anyway takes what is there.",
        code="head-rolled-back",
    )


def _forged_head(number: int, why: str) -> AfterwordError:
    return Untrusted(
        f"Head {number} is forged or altered: {why}. What lies before it still holds; --anyway takes only that.",
        code="head-forged",
    )
