"""One journalist who checks in over and over: `python -P -m bench.client COUNT`.

Rule of this room: it does what `afterword checkin` does between the passphrase and the answer.
"""

import os
import sys
from pathlib import Path

from cli.checkin import check_in
from cli.home import Home
from cli.remote import Remote


def main(count: int) -> None:
    secret = Path(os.environ["AFTERWORD_PASSPHRASE_FILE"]).read_text().splitlines()[0]
    with Home.open() as home:
        keyring = home.unlock(secret)
        with Remote(home.url, home.server) as remote:
            check_in(home, keyring, remote)
            print("ready", flush=True)
            sys.stdin.read()
            for _ in range(count):
                check_in(home, keyring, remote)


if __name__ == "__main__":
    main(int(sys.argv[1]))
