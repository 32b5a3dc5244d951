"""What an operator sets, and what is no setting."""

from pathlib import Path

import pytest

from vault.errors import BadUsage
from vault.settings import GIB, Settings, check_url, read_mail, read_settings, read_size


def settings(**given: str) -> Settings:
    return read_settings({f"AFTERWORD_{name}": value for name, value in given.items()})


def test_without_a_word_from_the_operator_a_server_is_small_local_and_careful() -> None:
    plain = settings()
    assert (plain.bind, plain.port, plain.url, plain.mail) == ("127.0.0.1", 8470, None, None)
    assert (plain.quota, plain.low_water) == (20 * GIB, GIB)
    assert (plain.short, plain.tick, plain.shortest_ladder) == (False, 5_000, 24 * 3_600_000)
    assert plain.database == f"sqlite:///{Path.cwd()}/afterword-data/afterword.db"


def test_the_command_line_goes_before_the_environment() -> None:
    environment = {"AFTERWORD_DATA": "/a", "AFTERWORD_PORT": "1", "AFTERWORD_URL": "https://a.example"}
    assert read_settings(environment).port == 1
    given = read_settings(environment, data=Path("/b"), port=2, url="https://b.example/")
    assert (given.data, given.port, given.url) == (Path("/b"), 2, "https://b.example")


def test_any_setting_may_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "smtp"
    secret.write_text("smtp+starttls://vault:p%40ss@mail.example\n")
    mail = settings(SMTP_FILE=str(secret)).mail
    assert mail is not None
    assert (mail.host, mail.port, mail.tls) == ("mail.example", 587, "starttls")
    assert (mail.user, mail.password, mail.sender) == ("vault", "p@ss", "afterword@mail.example")
    with pytest.raises(BadUsage) as refused:
        settings(SMTP_FILE=str(tmp_path / "nothing"))
    assert refused.value.code == "bad-setting"


def test_that_a_crowd_waits_is_switched_off_by_a_clear_word_only() -> None:
    assert settings().mass_hold
    assert settings(MASS_HOLD="on").mass_hold
    assert not settings(MASS_HOLD="off").mass_hold
    with pytest.raises(BadUsage, match="on or off"):
        settings(MASS_HOLD="0")


@pytest.mark.parametrize(("scheme", "port"), [("smtp", 25), ("smtp+starttls", 587), ("smtps", 465)])
def test_each_way_of_mailing_has_its_usual_port(scheme: str, port: int) -> None:
    assert read_mail(f"{scheme}://mail.example", None, None).port == port
    assert read_mail(f"{scheme}://mail.example:2525", None, None).port == 2525


@pytest.mark.parametrize(
    "url", ["mail.example", "http://mail.example", "smtp://", "smtp://mail.example:port", "smtp://h:99999"]
)
def test_a_mail_server_that_cannot_be_meant_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(BadUsage, match="smtp"):
        read_mail(url, None, None)


def test_settings_show_no_password() -> None:
    shown = repr(settings(SMTP="smtps://vault:geheim@mail.example"))
    assert "geheim" not in shown
    assert "vault:" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "https://vault.example",
        "http://127.0.0.1:8470",
        "http://[::1]:1",
        "http://localhost",
        "http://x.onion",
    ],
)
def test_an_address_with_tls_or_on_this_computer_or_an_onion_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://vault.example",
        "vault.example",
        "ftp://vault.example",
        "https://",
        "http://onion.example",
        "https://[vault.example",
        "https://[null]",
        "https://vault.example:99999",
        "https://vault.example:0",
    ],
)
def test_no_address_is_taken_over_which_somebody_could_listen(url: str) -> None:
    with pytest.raises(BadUsage) as refused:
        settings(URL=url)
    assert refused.value.code == "bad-url"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("WORKERS", "0"),
        ("THREADS", "many"),
        ("WORKERS", "٣"),
        ("QUOTA", "1.5GiB"),
        ("LOW_WATER", "-1"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(BadUsage, match=f"AFTERWORD_{name}") as refused:
        settings(**{name: value})
    assert refused.value.code == "bad-setting"


def test_operators_are_as_many_as_are_named() -> None:
    assert settings(OPERATOR="a@x.example, b@y.example").operator_addresses == ("a@x.example", "b@y.example")
    assert settings(OPERATOR=" ").operator_addresses == ()


def test_only_a_rehearsal_may_be_short() -> None:
    short = read_settings({}, short=True)
    assert (short.tick, short.shortest_dwell, short.shortest_ladder, short.shortest_cooling) == (
        200,
        800,
        0,
        0,
    )
    assert settings(ALLOW_SHORT="on").short
    assert not settings(ALLOW_SHORT="off").short
    assert not settings(ALLOW_SHORT="").short
    with pytest.raises(BadUsage, match="on or off"):
        settings(ALLOW_SHORT="1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROBE_PROXY", "socks5://127.0.0.1:9050"),
        ("PROBE_PROXY", "127.0.0.1:9050"),
        ("PROBE_PROXY", "socks5h://"),
        ("PROBE_PROXY", "socks5h://127.0.0.1:99999"),
        ("PROBE_PROXY", "socks5h://[::1"),
        ("PROBE_URL", "http://vault.example"),
        ("PROBE_URL", "https://"),
        ("OPERATOR_LANGUAGE", "de"),
    ],
)
def test_what_would_fail_on_the_day_is_refused_at_the_start_by_its_name(name: str, value: str) -> None:
    with pytest.raises(BadUsage, match=f"AFTERWORD_{name}") as refused:
        settings(**{name: value})
    assert refused.value.code == "bad-setting"


def test_the_way_of_the_knock_is_taken_as_it_is_written() -> None:
    given = settings(PROBE_PROXY="socks5h://[::1]:9050", PROBE_URL="https://10.0.0.5", OPERATOR_LANGUAGE="es")
    assert (given.probe_proxy, given.probe_url) == ("socks5h://[::1]:9050", "https://10.0.0.5")
    assert given.operator_language == "es"
    assert settings(PROBE_PROXY="", PROBE_URL="").probe_url is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("1kB", 1000),
        ("500 MB", 500_000_000),
        ("50GiB", 50 * 2**30),
        ("2t", 2 * 10**12),
        ("0", 0),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert read_size(text) == size
    assert settings(QUOTA=text).quota == size


@pytest.mark.parametrize("text", ["", "-1", "1.5GB", "GB", "1 PB", "1GBB", "٣", "9999999999TiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadUsage):
        read_size(text)


def test_witnesses_are_several_and_a_watcher_is_one() -> None:
    given = settings(
        WITNESS_URL="https://a.example, https://b.example/x http://c.onion", HEARTBEAT_URL="https://h"
    )
    assert given.witness_urls == ("https://a.example", "https://b.example/x", "http://c.onion")
    assert given.heartbeat_url == "https://h"
    assert settings().witness_urls == ()
    assert settings().heartbeat_url is None


@pytest.mark.parametrize("name", ["WITNESS_URL", "HEARTBEAT_URL"])
@pytest.mark.parametrize("url", ["http://far.example/secret", "ftp://far.example/secret", "secret"])
def test_what_is_asked_outside_is_asked_under_tls_and_a_refusal_keeps_the_address(
    name: str, url: str
) -> None:
    with pytest.raises(BadUsage, match=f"AFTERWORD_{name}") as refused:
        settings(**{name: url})
    assert "secret" not in str(refused.value)
