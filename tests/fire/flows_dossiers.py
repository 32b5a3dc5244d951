"""From an invite to an armed switch: joining, creating, uploading, proving.

Rule of this room: every step may be taken twice, as by a client that never heard the answer.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from tests.fire.bases import (
    QUOTA,
    Planned,
    armed,
    created,
    founded,
    order,
    peopled,
    pushed,
    readers_of,
    the,
    workflow,
)
from tests.fire.stand import Base, Server, Step, settings_of
from tests.world import Dossier
from vault import (
    accounts,
    age,
    deposit,
    dossiers,
    identity,
    statements,
    wire,
)
from vault.errors import AfterwordError, Refused
from vault.stream import OBJECT_SIZE, SLICE_SIZE, seal_object


@workflow(founded)
def enrol(server: Server, base: Base) -> list[Step]:
    code = accounts.invite_journalist(server.records, server.custodian)
    seeds = {name: identity.RootSeed(os.urandom(32)) for name in ("ana", "reader")}
    keys = {name: identity.Keyring.from_seed(seed) for name, seed in seeds.items()}
    cards = {
        name: identity.read_card(identity.write_card(name, each, server.clock.wall(), "cli"))
        for name, each in keys.items()
    }
    asked = wire.AddressRequest("ana@example.org", "en", "Reminder", "phrase of ana")
    invites: list[str] = []

    def account(server: Server, name: str) -> Any:  # Any: an Account; None is a mistake of the test
        return server.records.account_with_card(cards[name].hash.hex())

    def join(name: str, code: Callable[[], str]) -> Callable[[Server], bytes]:
        def act(server: Server) -> bytes:
            joining = wire.Joining(code(), cards[name].envelope.decode())
            return accounts.join(server.records, server.custodian, joining, QUOTA).role.encode()

        return act

    def confirm(server: Server) -> bytes:
        hers = account(server, "ana")
        if not server.records.confirmed_addresses_of(hers.id):
            accounts.add_address(server.records, server.custodian, hers, asked)
            server.deliver()
            words = server.courier.carried[-1].body.split()
            accounts.confirm_address(
                server.records, server.custodian, hers, words[words.index("confirm") + 1]
            )
        return b"confirmed"

    def invite(server: Server) -> None:
        made = accounts.invite_collaborator(
            server.records, server.custodian, account(server, "ana"), "reader"
        )
        invites.append(made.code)

    return [
        Step("join", join("ana", lambda: code)),
        Step("address", confirm),
        Step("invite", invite),
        Step("colleague joins", join("reader", lambda: invites[-1])),
    ]


@workflow(peopled)
def sign_in(server: Server, base: Base) -> list[Step]:
    ana = base.people["ana"]
    login = statements.Login(
        server=server.custodian.hash,
        verify=ana.card.verify_key.hex,
        nonce=ana.nonce(),
        created=server.clock.wall(),
    )
    request = wire.SessionRequest(login=statements.write(login, ana.keyring.sign).decode())

    def act(server: Server) -> None:
        # A session is nobody's promise: a nonce that was spent by the lost one means signing anew.
        with contextlib.suppress(Refused):
            token = accounts.sign_in(server.records, server.custodian, request).token
            accounts.sign_out(server.records, token)

    return [Step("sign in", act)]


@workflow(peopled)
def create(server: Server, base: Base) -> list[Step]:
    made = base.made = Planned(base.people["ana"], readers_of(base))
    base.secrets += [made.key.reveal(), made.c, made.r]
    account = made.hers.account
    return [
        Step(
            "create",
            lambda server: dossiers.create(
                server.records, server.custodian, account, made.request, short=False
            )[1],
            signed=True,
        )
    ]


def objects_of(made: Dossier, count: int = 2) -> list[Any]:  # Any: what seal_object makes
    return [
        seal_object(os.urandom(16) + bytes(SLICE_SIZE - 16), made.key.recipient, os.urandom)
        for _ in range(count)
    ]


def _received(made: Dossier, account: Any, sealed: Any, name: str) -> Step:  # Any: see objects_of
    def act(server: Server) -> None:
        _, held = deposit.held(server.records, server.objects, account, made.id, sealed.name)
        deposit.receive(
            server.records, server.objects, account, made.id, sealed.name, held % OBJECT_SIZE,
            [sealed.data[held % OBJECT_SIZE :]], settings_of(server.folder).low_water,
        )  # fmt: skip

    return Step(name, act)


def _head(made: Dossier, names: tuple[str, ...]) -> Step:
    server = made.world
    row = server.records.dossier(made.id)
    assert row is not None
    root = wire.write_blob(age.seal(bytes(4096), made.key.recipient, os.urandom))
    head = statements.Head(made.id, row.bundles + 1, row.head, names, root, None, server.clock.wall())
    request, account = wire.Submission(made.hers.sign(head)), made.hers.account
    return Step(
        "head",
        lambda server: deposit.commit(server.records, server.custodian, account, made.id, request),
        signed=True,
    )


@workflow(created)
def upload(server: Server, base: Base) -> list[Step]:
    made = the(base)
    first, second = objects_of(made)
    account = made.hers.account

    def half(server: Server) -> None:
        def body() -> Iterator[bytes]:
            yield first.data[: OBJECT_SIZE // 2]
            raise ConnectionResetError

        with contextlib.suppress(ConnectionResetError, AfterwordError):
            deposit.receive(
                server.records, server.objects, account, made.id, first.name, 0, body(),
                settings_of(server.folder).low_water,
            )  # fmt: skip

    return [
        Step("half of an object", half),
        _received(made, account, first, "the rest of it"),
        _received(made, account, second, "another"),
        _head(made, (first.name, second.name)),
    ]


@workflow(created)
def upload_whole(server: Server, base: Base) -> list[Step]:
    made = the(base)
    account = made.hers.account
    return [
        _received(made, account, each, f"object {place}") for place, each in enumerate(objects_of(made), 1)
    ]


@workflow(created)
def head(server: Server, base: Base) -> list[Step]:
    made = the(base)
    sealed = objects_of(made)
    for each in sealed:
        deposit.receive(
            server.records, server.objects, made.hers.account, made.id, each.name, 0, [each.data], 0
        )
    return [_head(made, tuple(each.name for each in sealed))]


@workflow(pushed)
def arm(server: Server, base: Base) -> list[Step]:
    made = the(base)
    row = server.records.dossier(made.id)
    assert row is not None
    return [order(made.hers, made.id, statements.Arm, epoch=row.epoch, anyway=False)]


@workflow(created)
def proof(server: Server, base: Base) -> list[Step]:
    made = the(base)
    row = server.records.dossier(made.id)
    assert row is not None
    found = []
    for reader in made.readers[:2]:
        line = server.records.collaborator(made.id, reader.account.id)
        assert line is not None
        each = order(reader, made.id, statements.Proof, epoch=row.epoch, roster=row.roster, index=line.place)
        found.append(Step(f"proof {line.place}", each.act, signed=True))
    return found


@workflow(armed)
def leave(server: Server, base: Base) -> list[Step]:
    made = the(base)
    return [order(made.readers[2], made.id, statements.Leave)]
