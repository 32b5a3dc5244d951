"""One armed dossier, copied row by row into as many as somebody wants: a server of a size that nobody could join.

Rule of this room: a copy has a journalist, an address and a switch of its own, and all of it reads; colleagues are
shared.
"""

from tests.world import Dossier

_OWN = {
    "accounts": ("id", "card_hash", "verify", "checkin"),
    "addresses": ("id", "account"),
    "dossiers": ("id", "journalist"),
    "switches": ("dossier",),
    "collaborators": ("dossier",),
}
_WHOSE = {
    "accounts": "id = :account",
    "addresses": "account = :account",
    "dossiers": "id = :dossier",
    "switches": "dossier = :dossier",
    "collaborators": "dossier = :dossier",
}


def multiply(made: Dossier, many: int, *, first: int = 1) -> None:
    """`many` more dossiers like `made`, each with a journalist of its own. Copy n has ids that end in n, in hex."""
    db = made.world.database
    who = {"account": made.hers.account.id, "dossier": made.id}
    step = 5_000
    for begin in range(first, first + many, step):
        numbers = {"low": begin, "high": min(begin + step, first + many)}
        with db.transaction():
            for table, own in _OWN.items():
                columns = [
                    str(row["name"])
                    for row in db.all("SELECT name FROM pragma_table_info(:table)", table=table)
                ]
                chosen = ", ".join(_copied(column, column in own) for column in columns)
                db.run(
                    f"INSERT INTO {table} ({', '.join(columns)}) WITH RECURSIVE some (n) AS "  # noqa: S608 names are ours
                    "(SELECT :low UNION ALL SELECT n + 1 FROM some WHERE n + 1 < :high) "
                    f"SELECT {chosen} FROM some, {table} WHERE {_WHOSE[table]}",
                    **who,
                    **numbers,
                )


def _copied(column: str, own: bool) -> str:
    # The last eight digits of an id become the number of the copy, so that ids keep their length.
    return f"substr({column}, 1, length({column}) - 8) || printf('%08x', n)" if own else column
