"""From a release to the dossier's key: one release share, my own share, and what the others contributed.

Rule of this room: every share is held to its commitment before it is used or passed on; a bad one is named with
its sender and gone on without; the key stays in memory.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli import terminal
from cli.released import Case, has_given
from vault import age, sharing, statements, wire
from vault.clock import Clock, SystemClock
from vault.errors import AfterwordError, Malformed, NotEnoughShares, Untrusted
from vault.identity import ContactCard, Keyring
from vault.sharing import DealtShare, Share
from vault.statements import Collaborator, Contribution, Custodian, Roster, SealedTo

if TYPE_CHECKING:
    from cli.home import Home
    from cli.remote import Remote

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class BadShare:
    """A contribution that cannot be used, and who sent it."""

    label: str
    why: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """The good shares, mine among them; the bad ones; and who has sent nothing yet."""

    good: tuple[Share, ...]
    bad: tuple[BadShare, ...]
    missing: tuple[str, ...]


def open_own_share(remote: "Remote", keyring: Keyring, case: Case) -> DealtShare:
    """My share of the released roster, held to its commitment."""
    sealed = remote.call("GET", f"/dossiers/{case.dossier}/share", None, wire.SealedShare)
    line = case.roster.roster.collaborators[case.place]
    blob = wire.read_blob(sealed.sealed)
    if hashlib.sha256(blob).hexdigest() != line.sealed:
        raise Untrusted(
            "The server hands out another share than the one the roster names for you; run `afterword drill` and "
            "tell the journalist's other colleagues.",
            code="share-forged",
        )
    return _open_share(blob, keyring, case, line.index)


def contribute(
    home: "Home",
    remote: "Remote",
    keyring: Keyring,
    case: Case,
    random: Random,
    clock: Clock | None = None,
) -> DealtShare:
    """Pass my share on to every other collaborator of the roster, unless that was done already. Gives my share."""
    mine = open_own_share(remote, keyring, case)
    state = remote.call("GET", f"/dossiers/{case.dossier}", None, wire.DossierState)
    if has_given(case, state):
        return mine
    others = [card for at, card in enumerate(case.cards) if at != case.place]
    written = sharing.write_share(mine)
    blobs = [age.seal(written, card.recipient, random) for card in others]
    readers = tuple(
        SealedTo(card.hash.hex(), hashlib.sha256(blob).hexdigest())
        for card, blob in zip(others, blobs, strict=True)
    )
    created = (clock or SystemClock()).wall()

    def make(seq: int) -> Contribution:
        return Contribution(
            case.server,
            case.dossier,
            seq,
            case.roster.roster.epoch,
            case.roster.hash.hex(),
            mine.share.index,
            readers,
            created,
        )

    remote.submit(home, keyring, case.dossier, make, blobs)
    terminal.say("Your share was sealed to each of the others and sent. The server cannot read it.")
    return mine


def gather(keyring: Keyring, case: Case, mine: DealtShare | BadShare) -> Gathered:
    """Which shares are here. A sender counts once, with the first good contribution."""
    own = case.roster.roster.collaborators[case.place].index
    good: dict[int, Share] = {}
    bad: dict[int, BadShare] = {}
    if isinstance(mine, DealtShare):
        good[own] = mine.share
    else:
        bad[own] = mine
    lines = {line.index: place for place, line in enumerate(case.roster.roster.collaborators)}
    for sent in case.released.contributions:
        # Only to find whose key must verify it; nothing else of it is believed yet.
        try:
            claimed = statements.peek(sent.statement.encode())
        except AfterwordError:
            bad.setdefault(0, BadShare("somebody", "it is not a contribution at all"))
            continue
        if not isinstance(claimed, Contribution) or claimed.index not in lines:
            bad.setdefault(0, BadShare("somebody", "it is not from anybody on this roster"))
            continue
        if claimed.index in good or claimed.index == own:
            continue
        sender = case.cards[lines[claimed.index]]
        try:
            good[claimed.index] = _read_contribution(sent, sender, keyring, case)
            bad.pop(claimed.index, None)
        except AfterwordError as wrong:
            bad[claimed.index] = BadShare(sender.card.label, str(wrong))
    missing = [
        card.card.label
        for line, card in zip(case.roster.roster.collaborators, case.cards, strict=True)
        if line.index not in good and line.index not in bad
    ]
    return Gathered(tuple(good.values()), tuple(bad.values()), tuple(missing))


def combine(keyring: Keyring, case: Case, gathered: Gathered) -> age.Identity:
    """The dossier's key. NotEnoughShares; Untrusted if all shares are as dealt and still do not give it."""
    roster = case.roster.roster
    if len(gathered.good) < roster.k:
        raise NotEnoughShares(have=len(gathered.good), need=roster.k)
    withheld = _release_shares(keyring, case)
    key = sharing.xor(sharing.combine(gathered.good[: roster.k]), sharing.combine(withheld[: roster.t]))
    found = age.Identity(key)
    if str(found.recipient) != roster.recipient:
        raise Untrusted(
            "The shares are as they were dealt and yet do not give this dossier's key: what the server released is "
            "not what it was given. Ask its operator for its backups; everything else is in order.",
            code="wrong-release-share",
        )
    return found


def check_share(dealt: DealtShare, journalist: ContactCard, roster: Roster, line: Collaborator) -> None:
    """Untrusted when it is not the share that this line of the roster speaks of."""
    check_binding(dealt, journalist, roster, line.index)
    try:
        sharing.check_commitment(
            dealt.share,
            bytes.fromhex(line.commitment),
            journalist=dealt.journalist,
            dossier=dealt.dossier,
            epoch=dealt.epoch,
        )
    except Untrusted:
        raise Untrusted("it is not the one that the roster commits to") from None


def check_binding(dealt: DealtShare, journalist: ContactCard, roster: Roster, index: int) -> None:
    """Untrusted when it was dealt for something else, in words that go on a sentence."""
    if dealt.journalist != journalist.verify_key.raw:
        raise Untrusted("it was dealt by another journalist")
    if dealt.dossier.hex() != roster.dossier:
        raise Untrusted("it belongs to another dossier")
    if dealt.epoch != roster.epoch:
        raise Untrusted(f"it belongs to the roster of epoch {dealt.epoch}, and epoch {roster.epoch} counts")
    if dealt.share.index != index:
        raise Untrusted(f"it is number {dealt.share.index}, and number {index} was expected")


def give(home: "Home", remote: "Remote", keyring: Keyring, case: Case, random: Random) -> Gathered:
    """Contribute, and see which shares are here. If my own is bad the others' may still be enough."""
    try:
        mine: DealtShare | BadShare = contribute(home, remote, keyring, case, random)
    except (Untrusted, Malformed) as wrong:
        mine = BadShare(case.cards[case.place].card.label, str(wrong))
    return gather(keyring, case, mine)


def _release_shares(keyring: Keyring, case: Case) -> Sequence[Share]:
    roster = case.roster.roster
    shares: dict[int, Share] = {}
    bad = ""
    for sent in case.released.shares:
        for line in roster.custodians:
            if line.index == sent.index:
                try:
                    shares[sent.index] = _read_release_share(sent, line, keyring, case)
                except (Untrusted, Malformed) as wrong:
                    bad = f" ({wrong})"
    if len(shares) < roster.t:
        raise Untrusted(
            f"The server released, but hands out no release share that can be used{bad}; ask its operator.",
            code="no-release-share",
        )
    return tuple(shares.values())


def _read_release_share(sent: wire.SentReleaseShare, line: Custodian, keyring: Keyring, case: Case) -> Share:
    dealt = _open_sealed(wire.read_blob(sent.sealed), keyring)
    check_binding(dealt, case.journalist, case.roster.roster, sent.index)
    # Only epoch 1 commits to it in the roster; later the recipient of the combined key is the test.
    if line.commitment is not None:
        sharing.check_release_commitment(
            dealt.share,
            bytes.fromhex(line.commitment),
            journalist=dealt.journalist,
            dossier=dealt.dossier,
            epoch=dealt.epoch,
        )
    return dealt.share


def _read_contribution(
    sent: wire.SentContribution, sender: ContactCard, keyring: Keyring, case: Case
) -> Share:
    said = statements.read(sent.statement.encode(), sender.verify_key, Contribution)
    roster = case.roster
    if (said.server, said.dossier) != (case.server, case.dossier):
        raise Untrusted("it was signed for another dossier")
    if (said.epoch, said.roster) != (roster.roster.epoch, roster.hash.hex()):
        raise Untrusted(f"it was signed for the roster of epoch {said.epoch}, not for this one")
    blob = wire.read_blob(sent.sealed)
    me = case.cards[case.place].hash.hex()
    if SealedTo(me, hashlib.sha256(blob).hexdigest()) not in said.readers:
        raise Untrusted("it is not the one that its sender signed for you")
    return _open_share(blob, keyring, case, said.index).share


def _open_share(blob: bytes, keyring: Keyring, case: Case, index: int) -> DealtShare:
    dealt = _open_sealed(blob, keyring)
    line = next(each for each in case.roster.roster.collaborators if each.index == index)
    check_share(dealt, case.journalist, case.roster.roster, line)
    return dealt


def _open_sealed(blob: bytes, keyring: Keyring) -> DealtShare:
    return sharing.read_share(age.open_sealed(blob, keyring.seal))
