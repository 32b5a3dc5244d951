"""One parser under inputs that grow towards lines not reached before, until enough were tried.

Rule of this room: a process of its own, as atheris never returns; it ends with nought if every input was read, or
refused with one of our own errors, and with a trace if not. `python -P -m tests.fire.guided NAME RUNS CORPUS`.
"""

import resource
import sys
from pathlib import Path

import atheris

# What is imported in here is counted line by line; nothing of ours may be imported before it.
with atheris.instrument_imports(include=["vault", "cli", "web"], enable_loader_override=False):
    from tests.fire import readers
    from tests.fire.mutations import mutate
    from vault.errors import Malformed

MOST_MEMORY = 2 << 30  # bytes of address space: the fuzzer's own part with it
LONGEST_INPUT = 64 * 1_024


@atheris.instrument_func  # type: ignore[untyped-decorator]
def careless(data: bytes) -> None:
    """Fails behind three steps that chance alone does not take: whoever is led by coverage gets there."""
    if data[:1] == b"w" and data[1:2] == b"o" and data[2:3] == b"r":
        raise ZeroDivisionError
    raise Malformed("No.")


def main(name: str, runs: str, corpus: str) -> None:
    planted = readers.Parser("careless", careless, [b"none of it"])
    parser = planted if name == planted.name else readers.parsers()[name]
    for number, sample in enumerate(parser.samples):
        (Path(corpus) / str(number)).write_bytes(sample)

    def once(data: bytes) -> None:
        readers.accepts(parser, parser.wrap(data))

    def altered(data: bytes, longest: int, seed: int) -> bytes:
        """In turns what libFuzzer does to bytes that it knows nothing of, and what an enemy of our formats does."""
        return bytes(atheris.Mutate(data, longest) if seed % 2 else mutate(name, seed, [data])[:longest])

    options = [f"-runs={runs}", f"-max_len={LONGEST_INPUT}", "-rss_limit_mb=0", "-seed=7"]
    # Not libFuzzer's own limit of memory, which counts what the process was forked from too.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    # A reader that hangs is found by the limit; it is wide, as a busy machine is no mistake of the reader's.
    options += ["-timeout=300", f"-artifact_prefix={corpus}/", "-print_final_stats=1", corpus]
    atheris.Setup(["guided", *options], once, custom_mutator=altered)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
