from collections.abc import Iterator

import pytest

from cli import connection
from cli.remote import Remote
from test_cli.loopback import Loopback, a_person, a_problem, no_pause
from vault import errors, wire
from vault.errors import Conflict, StaleSequence, Unreachable, Untrusted


@pytest.fixture
def remote(server: Loopback) -> Iterator[Remote]:
    with Remote(server.url, server.card, pause=no_pause) as one:
        yield one


@pytest.mark.parametrize("fault", ["cut", 502, 503, a_problem(503, "busy"), a_problem(429, "too-many")])
def test_what_passes_is_tried_again(server: Loopback, remote: Remote, fault: object) -> None:
    server.faults += [fault] * 4
    assert remote.info().card == server.card.envelope.decode()


def test_a_server_that_stays_away_is_unreachable(server: Loopback, remote: Remote) -> None:
    server.faults += ["cut"] * 5
    with pytest.raises(Unreachable):
        remote.info()
    server.close()
    with pytest.raises(Unreachable) as refused:
        remote.info()
    assert refused.value.code == "unreachable"
    assert "nothing answers at its address" in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)


def test_the_pauses_between_attempts_grow(server: Loopback) -> None:
    waited: list[float] = []
    server.faults += ["cut"] * 5
    with Remote(server.url, server.card, pause=waited.append) as remote, pytest.raises(Unreachable):
        remote.info()
    assert waited == list(connection.PAUSES) == sorted(connection.PAUSES)


def test_who_waits_for_a_server_that_does_not_answer_is_told_once(
    server: Loopback, remote: Remote, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults += ["cut"]
    remote.info()
    assert capsys.readouterr().err == ""
    server.faults += ["cut"] * 4
    remote.info()
    assert capsys.readouterr().err.count("No answer from the server yet") == 1


def test_an_invite_whose_answer_got_lost_is_not_asked_for_twice(server: Loopback, remote: Remote) -> None:
    keyring, card = a_person("Ana")
    server.accounts[card.card.verify] = card
    remote.sign_in(keyring)
    server.faults += ["cut"]
    with pytest.raises(Unreachable):
        remote.call("POST", "/invites", wire.InviteRequest("Bea"), wire.Invite)
    assert server.asked.count("POST /invites") == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed", errors.Malformed),
        (404, "not-found", errors.NotFound),
        (404, "invite-unknown", errors.NotFound),
        (409, "head-conflict", Conflict),
        (409, "objects-missing", Conflict),
        (409, "wrong-epoch", Conflict),
        (409, "stale-nonce", Conflict),
        (409, "not-ready", errors.Refused),
        (409, "released", errors.Refused),
        (410, "invite-expired", errors.Refused),
        (413, "over-quota", errors.OverQuota),
        (422, "object-mismatch", Untrusted),
        (500, "bug", Unreachable),
        (503, "damaged", errors.Damaged),
        (507, "no-space", errors.NoSpace),
    ],
)
def test_a_problem_becomes_the_error_that_its_code_names(
    server: Loopback, remote: Remote, status: int, code: str, kind: type[Exception]
) -> None:
    server.faults += [a_problem(status, code, "Do this.\n\x1b[2JAfterword: all is well")] * 5
    with pytest.raises(kind) as refused:
        remote.info()
    assert type(refused.value) is kind
    assert refused.value.code == code
    assert str(refused.value) == "Do this. \\u001b[2JAfterword: all is well"


def test_a_stale_number_tells_what_the_server_has_seen(server: Loopback, remote: Remote) -> None:
    server.faults += [a_problem(409, "stale-sequence", seen=12)]
    with pytest.raises(StaleSequence) as refused:
        remote.info()
    assert refused.value.seen == 12


@pytest.mark.parametrize("status", [200, 301, 302, 403, 418])
def test_what_is_no_afterword_server_is_said_to_be_none(
    server: Loopback, remote: Remote, status: int
) -> None:
    server.faults += [status]
    with pytest.raises(errors.Malformed):
        remote.info()
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["http://example.org", "ftp://127.0.0.1", "127.0.0.1:80", "https://"])
def test_plain_http_leads_nowhere_but_home(url: str) -> None:
    with pytest.raises(errors.BadUsage):
        Remote(url, None)


def test_an_onion_address_without_tor_is_refused_before_its_name_is_looked_up() -> None:
    with pytest.raises(errors.BadUsage) as refused:
        Remote("http://abcdefgh.onion", None)
    assert refused.value.code == "needs-proxy"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9050", "http://127.0.0.1:8118", "nonsense"])
def test_a_proxy_that_would_look_up_names_here_is_refused(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFTERWORD_PROXY", proxy)
    with pytest.raises(errors.BadUsage) as refused:
        Remote("https://example.org", None)
    assert refused.value.code == "bad-proxy"


def test_a_proxy_that_is_not_there_is_unreachable_and_the_server_is_not_asked_past_it(
    server: Loopback,
) -> None:
    with (
        Remote("http://abcdefgh.onion", None, proxy="socks5h://127.0.0.1:1", pause=no_pause) as remote,
        pytest.raises(Unreachable) as away,
    ):
        remote.info()
    assert away.value.code == "proxy-failed"
