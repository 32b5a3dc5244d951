import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import disk
from cli.home import KEYRING
from test_cli.test_home import a_home
from vault.errors import Conflict


def test_what_others_could_read_is_found(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    (home.path / KEYRING).chmod(0o640)
    assert disk.exposed(home.path) == [home.path / KEYRING]


def test_state_is_kept_with_full_synchronous_and_deleted_securely(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    assert home.db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert home.db.execute("PRAGMA secure_delete").fetchone() == (1,)
    assert home.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_one_process_at_a_time_holds_a_lock_and_a_crash_lets_go(tmp_path: Path) -> None:
    home, _ = a_home(tmp_path / "home")
    with home.lock("push"):
        with pytest.raises(Conflict) as refused, home.lock("push"):
            pass
        assert refused.value.code == "busy"
        with home.lock("checkin"):
            pass
    code = "import sys, os; from pathlib import Path; from cli import disk; "
    code += "disk.lock(Path(sys.argv[1]), 'push').__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-P", "-c", code, str(home.path)], check=False)
    with home.lock("push"):
        pass


def test_a_new_passphrase_replaces_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, keyring = a_home(tmp_path / "home")
    before = (home.path / KEYRING).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            disk.write_private(home.path / KEYRING, b"new")
    assert (home.path / KEYRING).read_bytes() == before
    assert not [each for each in home.path.iterdir() if each.name.startswith(".")]
    disk.write_private(home.path / KEYRING, b"new")
    assert (home.path / KEYRING).read_bytes() == b"new"
    assert keyring
