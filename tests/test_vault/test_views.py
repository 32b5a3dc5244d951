"""How a dossier looks to those who may see it."""

import pytest

from tests.world import Dossier, Person, World, an_armed_dossier, until
from vault import age, sharing, statements, views, wire
from vault.clock import HOUR
from vault.errors import NotFound
from vault.plans import Plan
from vault.statements import Dwells
from vault.switch import Stage

PLAN = Plan(24 * HOUR, 12 * HOUR, 12 * HOUR, 24 * HOUR)


@pytest.fixture
def made(world: World) -> Dossier:
    return an_armed_dossier(world, PLAN)


def state(made: Dossier, who: Person) -> wire.DossierState:
    return views.dossier(made.world.records, who.account, made.id)


def test_her_title_is_for_her_alone(made: Dossier) -> None:
    title = state(made, made.hers).title
    assert title is not None
    assert age.open_sealed(wire.read_blob(title), made.hers.keyring.seal) == b"Title"
    assert all(state(made, reader).title is None for reader in made.readers)


def test_people_are_shown_dates_by_the_wall_clock(made: Dossier) -> None:
    row = made.world.records.service()
    due = made.world.records.switch(made.id).switch.due
    assert row is not None
    assert due is not None
    shown = state(made, made.readers[0]).projected
    assert [each.stage for each in shown] == ["reminded", "warned", "grace", "released"]
    assert shown[0].at == made.world.clock.wall() + due - row.served
    assert shown[3].at - shown[0].at == 48 * HOUR


def test_everybody_concerned_sees_the_same_stage_and_the_same_lines(made: Dossier) -> None:
    until(made, Stage.WARNED)
    seen = [state(made, who) for who in (made.hers, *made.readers)]
    assert {each.stage for each in seen} == {"warned"}
    assert len({each.collaborators for each in seen}) == 1
    assert {each.role for each in seen} == {"journalist", "collaborator"}
    assert all(line.proved for line in seen[0].collaborators)


def test_who_left_is_seen_to_have_left(made: Dossier) -> None:
    made.readers[1].order(made.id, statements.Leave)
    assert [line.left for line in state(made, made.hers).collaborators] == [False, True, False]


def test_a_list_holds_hers_and_those_shared_with_her_and_no_others(world: World, made: Dossier) -> None:
    bea = world.journalist("bea")
    other = bea.create([bea.colleague("c")], 1, PLAN)
    listed = views.dossiers(world.records, made.hers.account)
    assert [each.dossier for each in listed.dossiers] == [made.id]
    assert [each.dossier for each in views.dossiers(world.records, made.readers[0].account).dossiers] == [
        made.id
    ]
    assert [each.dossier for each in views.dossiers(world.records, bea.account).dossiers] == [other.id]


def test_a_share_is_ones_own_and_can_be_drilled_long_before_the_day(made: Dossier) -> None:
    for place, reader in enumerate(made.readers, 1):
        shown = views.share(made.world.records, reader.account, made.id)
        dealt = sharing.read_share(age.open_sealed(wire.read_blob(shown.sealed), reader.keyring.seal))
        assert dealt.share.index == place
    with pytest.raises(NotFound):
        views.share(made.world.records, made.hers.account, made.id)


def test_the_deal_is_for_the_journalist_alone(made: Dossier) -> None:
    assert views.deal(made.world.records, made.hers.account, made.id).epoch == 1
    with pytest.raises(NotFound):
        views.deal(made.world.records, made.readers[0].account, made.id)


def test_proofs_can_be_verified_by_everybody(made: Dossier) -> None:
    for who in (made.hers, made.readers[2]):
        shown = views.proofs(made.world.records, who.account, made.id).proofs
        for signed, reader in zip(shown, made.readers, strict=True):
            statements.read(signed.encode(), reader.card.verify_key, statements.Proof)


def test_the_rosters_are_shown_as_they_were_signed(made: Dossier) -> None:
    shown = views.rosters(made.world.records, made.world.custodian, made.readers[0].account, made.id)
    assert shown.rosters == (made.request.roster,)
    assert shown.journalist == made.hers.card.envelope.decode()
    assert shown.pending is None


VIEWS = {
    "dossier": lambda w, a, d: views.dossier(w.records, a, d),
    "rosters": lambda w, a, d: views.rosters(w.records, w.custodian, a, d),
    "deal": lambda w, a, d: views.deal(w.records, a, d),
    "share": lambda w, a, d: views.share(w.records, a, d),
    "brief": lambda w, a, d: views.brief(w.records, a, d),
    "proofs": lambda w, a, d: views.proofs(w.records, a, d),
}


@pytest.mark.parametrize("view", VIEWS)
def test_foreign_and_unknown_dossiers_are_one_answer(world: World, made: Dossier, view: str) -> None:
    bea = world.journalist("bea")
    said = set()
    for dossier in (made.id, "00" * 16, "", "' OR 1=1 --"):
        with pytest.raises(NotFound) as refused:
            VIEWS[view](world, bea.account, dossier)  # type: ignore[no-untyped-call]
        said.add((refused.value.code, str(refused.value)))
    assert len(said) == 1


@pytest.mark.parametrize("view", ["dossier", "rosters", "share", "brief", "proofs"])
def test_whoever_was_taken_off_sees_what_a_stranger_sees(world: World, made: Dossier, view: str) -> None:
    gone = made.readers[2]
    with world.database.transaction():
        world.database.run("DELETE FROM collaborators WHERE account = :a", a=gone.account.id)
    with pytest.raises(NotFound):
        VIEWS[view](world, gone.account, made.id)  # type: ignore[no-untyped-call]


def test_a_history_comes_in_pages_and_is_ones_own(world: World, made: Dossier) -> None:
    for _ in range(120):
        made.hers.check_in()
    number, pages, after = made.hers.account.number, 0, 0
    seen = []
    while True:
        page = views.history(world.records, made.hers.account, after)
        seen += [each.number for each in page.entries]
        pages += 1
        if not page.more:
            break
        after = page.entries[-1].number
    assert seen == list(range(1, number + 1))
    assert pages == 2
    theirs = views.history(world.records, made.readers[0].account, 0)
    assert len(theirs.entries) == made.readers[0].account.number


def test_a_plan_is_shown_as_it_is_in_force(made: Dossier) -> None:
    made.hers.order(made.id, statements.PlanChange, plan=Dwells(24 * HOUR, HOUR, HOUR, HOUR))
    assert state(made, made.readers[0]).plan == Dwells(24 * HOUR, HOUR, HOUR, HOUR)


def test_looking_changes_nothing(world: World, made: Dossier) -> None:
    before = world.database.all("SELECT * FROM history") + world.database.all("SELECT * FROM outbox")
    for view in ("dossier", "rosters", "deal", "proofs"):
        VIEWS[view](world, made.hers.account, made.id)  # type: ignore[no-untyped-call]
    assert before == world.database.all("SELECT * FROM history") + world.database.all("SELECT * FROM outbox")
