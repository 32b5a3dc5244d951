"""Who may come in: invites, accounts, links, sessions and the addresses letters go to.

Rule of this room: whoever asks about somebody else learns nothing; tokens and codes rest as hashes, everything
that names or reaches a person rests sealed.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from vault import cooling, envelope, identity, ledger, letters, outbox, statements, watch, wire
from vault.clock import DAY, MINUTE
from vault.custodian import NONCE_LIVES, Custodian, digest
from vault.errors import Conflict, Malformed, NotFound, Refused, Unauthenticated, Untrusted
from vault.identity import ContactCard
from vault.letters import Facts, LetterKind
from vault.outbox import Reach
from vault.service import Moment
from vault.statements import Login, Role
from vault.storage.records import Records
from vault.storage.records.rows import Account, Address, Invite, Link

INVITE_LIVES: Final = 14 * DAY
SESSION_LIVES: Final = 30 * MINUTE
CODE_LIVES: Final = 2 * DAY
MOST_TRIES: Final = 5
MOST_ADDRESSES: Final = 10
MOST_INVITES: Final = 100
MOST_SESSIONS: Final = 50
MOST_CODES: Final = 20
"""Letters with a code that one account may ask for in a day. They go wherever it says, so whoever could send more
would have this server's mail refused everywhere, and with it every warning."""
RESERVE_PARTS: Final = 20


def invite_journalist(records: Records, custodian: Custodian) -> str:
    """A fresh code with which one journalist may join; only its hash is kept."""
    code = custodian.code()
    with records.transaction() as now:
        records.add_invite(Invite(digest(code), None, custodian.rest(b""), now.lived + INVITE_LIVES, None))
    return code


def invite_collaborator(records: Records, custodian: Custodian, account: Account, label: str) -> wire.Invite:
    """A code with which one colleague of this journalist may join, whom she calls `label`."""
    _require_journalist(account)
    identity.check_label(label)
    code = custodian.code()
    with records.transaction() as now:
        if len(records.invites_of(account.id, now.lived)) >= MOST_INVITES:
            raise Refused("Too many invites are open; wait until some were used.", code="too-many-invites")
        sealed = custodian.rest(label.encode())
        records.add_invite(Invite(digest(code), account.id, sealed, now.lived + INVITE_LIVES, None))
        ledger.note(records, now, account.id, "invited")
    return wire.Invite(code, INVITE_LIVES)


def join(records: Records, custodian: Custodian, joining: wire.Joining, quota: int) -> wire.Joined:
    """Spend an invite. The same code with the same card again is answered alike; with another it was used."""
    card = identity.read_card(joining.card.encode())
    if card.card.made_by == "server":
        raise Refused("A server's card cannot join; make your own with `afterword join`.", code="wrong-card")
    with records.transaction() as now:
        invite = records.invite(digest(joining.code))
        if invite is None:
            raise NotFound("This server knows no such invite; ask for a new one.", code="invite-unknown")
        if invite.used_by is None and invite.expires <= now.lived:
            raise Refused("This invite is too old; ask for a new one.", code="invite-expired")
        if invite.used_by not in (None, card.hash.hex()):
            raise Conflict("This invite was used by somebody else; ask for a new one.", code="invite-used")
        inviter = None if invite.journalist is None else records.account(invite.journalist)
        if invite.used_by is None:
            account = _account_for(records, custodian, now, card, quota, journalist=inviter is None)
            if inviter is not None:
                if inviter.id == account.id:
                    raise Refused(
                        "You cannot be your own colleague; send the invite to another person.",
                        code="own-invite",
                    )
                records.add_link(Link(inviter.id, account.id, invite.label, now.wall))
                ledger.note(records, now, inviter.id, "joined", card=card.hash.hex())
            records.spend_invite(invite.code, card.hash.hex())
            ledger.note(records, now, account.id, "joined")
    return wire.Joined(
        role="journalist" if inviter is None else "collaborator",
        inviter=None if inviter is None else custodian.wake(inviter.card).decode(),
    )


def _account_for(
    records: Records, custodian: Custodian, now: Moment, card: ContactCard, quota: int, *, journalist: bool
) -> Account:
    known = records.account_with_card(card.hash.hex())
    if known is not None:
        if journalist and not known.journalist:
            records.make_journalist(known.id, quota)
        return known
    for key in (card.verify_key.hex, card.checkin_key.hex):
        if records.account_with_key(key) is not None:
            raise Conflict("These keys belong to an account with another card.", code="card-changed")
    account = Account(
        id=custodian.short_id(),
        card_hash=card.hash.hex(),
        verify=card.verify_key.hex,
        checkin=card.checkin_key.hex,
        card=custodian.rest(card.envelope),
        journalist=int(journalist),
        seq=0,
        quota=quota if journalist else 0,
        used=0,
        number=0,
        history=ledger.FIRST,
        marked=0,
        checked_in=None,
        created=now.wall,
    )
    records.add_account(account)
    return account


def grant_nonce(records: Records, custodian: Custodian) -> wire.NonceGrant:
    with records.reading() as now:
        return wire.NonceGrant(custodian.grant_nonce(now.lived, now.life), NONCE_LIVES)


def sign_in(records: Records, custodian: Custodian, request: wire.SessionRequest) -> wire.SessionGrant:
    """A session for whoever signed a fresh nonce; one answer for every reason it cannot be given."""
    refusal = Unauthenticated(
        "This sign-in does not hold; run the command again, and check the server's address."
    )
    signed = request.login.encode()
    try:
        claimed = statements.peek(signed)
        if not isinstance(claimed, Login):
            raise refusal
        login = statements.read(signed, envelope.VerifyKey.read(claimed.verify), Login)
    except (Malformed, Untrusted):
        raise refusal from None
    token = custodian.token()
    with records.transaction() as now:
        account = records.account_with_key(login.verify)
        if account is None or account.verify != login.verify:
            raise refusal
        ledger.check(records, custodian, now, account, login)
        records.add_session(digest(token), account.id, now.lived + SESSION_LIVES)
        records.forget_older_sessions(account.id, MOST_SESSIONS)
        card = custodian.wake(account.card).decode()
        known_to_them = ledger.present(records, custodian, now, account, request.last)
        if known_to_them.lost:
            watch.give_time_again(records, custodian, known_to_them.now, account.id)
        account = records.account(account.id) or account  # what was given again is in its chain
        head = ledger.head(custodian, known_to_them.now, account, signed)
        links = ledger.links_since(records, custodian, account, request.last)
    return wire.SessionGrant(token, SESSION_LIVES, card, head.decode(), links)


def session(records: Records, token: str) -> Account:
    """Whose session this is."""
    with records.reading() as now:
        account = records.account_in_session(digest(token), now.lived)
    if account is None:
        raise Unauthenticated("This session has ended; sign in anew.")
    return account


def with_card(records: Records, card: str) -> Account:
    """The account of this card's hash; only for somebody who has just proved to hold its key."""
    account = records.account_with_card(card)
    if account is None:
        raise NotFound("This server knows no such account.")
    return account


def sign_out(records: Records, token: str) -> None:
    with records.transaction():
        records.end_session(digest(token))


def state(records: Records, custodian: Custodian, account: Account) -> wire.AccountState:
    """Everything the account may know of itself."""
    with records.reading() as now:
        addresses = tuple(_address_state(custodian, row) for row in records.addresses_of(account.id))
        links = tuple(_link(records, custodian, account, row) for row in records.links_of(account.id))
        invites = tuple(
            wire.OpenInvite(custodian.wake(row.label).decode(), row.expires - now.lived)
            for row in records.invites_of(account.id, now.lived)
        )
    return wire.AccountState(
        card=custodian.wake(account.card).decode(),
        role=role(account),
        seq=account.seq,
        quota=account.quota,
        used=account.used,
        reserve=account.quota // RESERVE_PARTS,
        addresses=addresses,
        links=links,
        invites=invites,
        marked=bool(account.marked),
    )


def role(account: Account) -> Role:
    return "journalist" if account.journalist else "collaborator"


def add_address(
    records: Records, custodian: Custodian, account: Account, request: wire.AddressRequest
) -> wire.AddressState:
    """Keep an address and send it a code; the same address again gets a new code."""
    _check_address(request.address)
    letters.read_subject(request.subject)
    letters.read_phrase(request.phrase)
    reach = Reach(request.address, request.language, request.subject, request.phrase)
    with records.transaction() as now:
        rows = records.addresses_of(account.id)
        known = next(
            (row for row in rows if outbox.read_reach(custodian, row).address == reach.address), None
        )
        if known is None:
            if len(rows) >= MOST_ADDRESSES:
                raise Refused(
                    f"An account has at most {MOST_ADDRESSES} addresses.", code="too-many-addresses"
                )
            known = Address(
                id=custodian.short_id(),
                account=account.id,
                sealed=outbox.write_reach(custodian, reach),
                confirmed=0,
                code=None,
                code_expires=None,
                tries=0,
                failing_since=None,
                removal=None,
                created=now.wall,
            )
            records.add_address(known)
        else:
            known = msgspec.structs.replace(known, sealed=outbox.write_reach(custodian, reach))
            records.replace_address(known.id, known.sealed)
        if not known.confirmed:
            if records.count_codes(account.id, now.lived - DAY) >= MOST_CODES:
                raise Refused("Too many codes were asked for today; try again tomorrow.", code="too-many")
            code = custodian.code()
            records.set_code(known.id, digest(code), now.lived + CODE_LIVES)
            records.withdraw_letters_to(known.id, now.lived)
            outbox.post_to(records, custodian, now, LetterKind.CODE, known, Facts(code=code))
        return _address_state(custodian, known)


def confirm_address(records: Records, custodian: Custodian, account: Account, code: str) -> wire.AddressState:
    """The code that arrived somewhere proves that the address is read by this person."""
    wanted = digest("".join(code.lower().split()).replace("-", ""))
    with records.transaction() as now:
        waiting = [row for row in records.addresses_of(account.id) if row.code is not None]
        for row in waiting:
            if row.code == wanted and row.tries < MOST_TRIES and (row.code_expires or 0) > now.lived:
                if row.confirmed:
                    return _address_state(custodian, row)
                records.confirm_address(row.id)
                ledger.note(records, now, account.id, "address-confirmed", address=row.id)
                for dossier in records.dossiers_shared_with(account.id):
                    if records.release(dossier.id) is not None:
                        outbox.post_release(records, custodian, now, dossier.id, row)
                return _address_state(custodian, msgspec.structs.replace(row, confirmed=1))
        for row in waiting:
            records.count_try(row.id)
    # Outside the transaction, so that the tries are counted.
    raise Conflict(
        "This code fits none of your addresses, or it is too old. Run `afterword address add` for a new one.",
        code="wrong-code",
    )


def remove_address(
    records: Records, custodian: Custodian, account: Account, address: str
) -> wire.AddressRemoved:
    """Forget an address; once a switch of hers is armed, a confirmed one only after cooling in full view."""
    with records.transaction() as now:
        row = records.address(address)
        if row is None or row.account != account.id:
            raise NotFound("You have no such address.")
        if row.removal is not None and cooling.is_under_way(records, row.removal):
            return wire.AddressRemoved(row.removal)
        if row.confirmed and cooling.has_armed(records, account.id):
            change = cooling.ask_address(records, custodian, now, account, row)
            return wire.AddressRemoved(change)
        records.withdraw_letters_to(row.id, now.lived)
        records.remove_address(row.id)
        if row.confirmed:
            outbox.address_is_gone(records, custodian, now, account.id)
        ledger.note(records, now, account.id, "address-removed", address=row.id)
    return wire.AddressRemoved(None)


def forget_expired(records: Records) -> None:
    """Sessions and nonces whose time is over, and codes that nobody can use any more."""
    with records.transaction() as now:
        records.forget_expired(now.lived)
        records.forget_codes(now.lived - CODE_LIVES)


def _address_state(custodian: Custodian, row: Address) -> wire.AddressState:
    reach = outbox.read_reach(custodian, row)
    return wire.AddressState(
        id=row.id,
        address=reach.address,
        language="es" if reach.language == "es" else "en",
        subject=reach.subject,
        phrase=reach.phrase,
        confirmed=bool(row.confirmed),
        failing_since=row.failing_since,
        removal=row.removal,
    )


def _link(records: Records, custodian: Custodian, account: Account, link: Link) -> wire.Link:
    theirs = link.collaborator if link.journalist == account.id else link.journalist
    other = records.account(theirs)
    if other is None:
        raise NotFound("There is no such account.")
    hers = link.journalist == account.id
    return wire.Link(
        card=custodian.wake(other.card).decode(),
        # What a journalist calls her colleague is hers alone.
        label=custodian.wake(link.label).decode() if hers else "",
        role="collaborator" if hers else "journalist",
        since=link.since,
    )


def _require_journalist(account: Account) -> None:
    if not account.journalist:
        raise Refused("Only a journalist's account can do this.", code="not-a-journalist")


def _check_address(address: str) -> None:
    name, at, host = address.rpartition("@")
    plain = address.isascii() and address.isprintable() and not set(address) & set(' <>()[],;:\\"')
    if not (
        at and name and "." in host.strip(".") and plain and ".." not in address and len(name) <= 64
    ) and not (plain and name and host == "localhost"):
        raise Refused(
            "This does not look like an e-mail address; write it like name@example.org.", code="bad-address"
        )


def linked_accounts(records: Records, journalist: str, cards: Sequence[str]) -> list[Account]:
    """The accounts of these cards, every one a colleague of this journalist by an invite of hers."""
    linked = {link.collaborator for link in records.links_of(journalist) if link.journalist == journalist}
    accounts = []
    for card in cards:
        account = records.account_with_card(card)
        if account is None or account.id not in linked:
            raise Refused(
                "Somebody on this roster has not joined by your invite; run `afterword collaborator list`.",
                code="unknown-collaborator",
            )
        accounts.append(account)
    return accounts
