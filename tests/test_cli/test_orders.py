import pytest

from cli import orders
from test_cli.bureau import Bureau
from test_cli.conftest import PASSPHRASE
from vault.clock import HOUR, read_duration
from vault.errors import BadUsage
from vault.statements import Dwells


def test_a_name_that_is_only_blanks_is_none() -> None:
    assert orders.asked_name(" Harbour ") == "Harbour"
    with pytest.raises(BadUsage):
        orders.asked_name("  ")


def test_a_name_not_given_is_asked_for_and_stays_out_of_the_command_line(bureau: Bureau) -> None:
    bureau.create()
    done = bureau.types("Ana", "plan", answers=("Harbour", PASSPHRASE))
    assert done.code == 0, done.err
    assert done.err.startswith("Name of the dossier: ")


def test_a_plan_is_shown_as_the_options_that_would_set_it() -> None:
    text = orders.plan_text(Dwells(36 * HOUR, HOUR, 90_000, 1))
    assert text == "--every 1d12h --remind 1h --warn 1m30s --grace 1ms"
    assert read_duration(text.split()[1]) == 36 * HOUR


@pytest.mark.parametrize(
    ("effective", "when"), [(None, "after your next check-in"), (1_790_000_000_000, "takes effect 2026")]
)
def test_a_slow_order_says_when_and_how_to_take_it_back(effective: int | None, when: str) -> None:
    done = orders.Done("0f" * 16, "Harbour", "armed", "ab" * 32, effective, (), Dwells(1, 1, 1, 1), 0)
    text = orders.cooling_text(done, "a pause")
    assert when in text
    assert f"afterword cancel {'0f' * 4} {'ab' * 8}" in text


def test_what_a_colleague_holds_a_share_of_is_not_hers_to_order(bureau: Bureau) -> None:
    id = bureau.create()
    assert bureau.refused("plan", id[:8], who="Ben") == "not-a-journalist"
