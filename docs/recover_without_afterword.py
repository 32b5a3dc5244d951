"""python3 recover_without_afterword.py KEY SEALED OUT

KEY holds the line AGE-SECRET-KEY-PQ-1…; SEALED has heads.jsonl and, anywhere below, the objects under their names;
OUT is made. Needs Python 3.10 and the commands `age` (1.3 or newer) and `zstd`. Every version of every file is
written: the newest in its place, the others under `earlier/bundle N/`.
"""

import base64
import hashlib
import json
import pathlib
import re
import subprocess
import sys
from functools import lru_cache

KEY, SEALED, OUT = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
SLICE, MIB = 1_046_677, 1_048_576


def made_by(given, *command):
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout


@lru_cache(maxsize=8)
def piece(name):  # of a stream: what one object holds
    sealed = OBJECTS[name].read_bytes()
    if len(sealed) != MIB or hashlib.sha256(sealed).hexdigest() != name:
        raise ValueError(f"object {name} is damaged")
    return made_by(sealed, "age", "-d", "-i", KEY)


def stored(objects, offset, length, size, codec, most=MIB):  # a chunk or a tree, of exactly `size` bytes
    if not (offset >= 0 < length <= most and 0 <= size <= most):
        raise ValueError("it lies where nothing can lie")
    names = objects[offset // SLICE : (offset + length - 1) // SLICE + 1]
    data = b"".join(map(piece, names))[offset % SLICE :][:length]
    if codec == "zstd":  # `head`, lest a hostile frame fill the memory
        data = made_by(data, "sh", "-c", 'zstd -dcq -M8MB | head -c "$0"', str(size + 1))
    if len(data) != size:
        raise ValueError("it has another length than announced")
    return data


def spelled(letter):  # as %HH
    return "".join(f"%{byte:02X}" for byte in letter[0].encode("utf-8", "surrogatepass"))


def safe(name):  # on every disk; it leads nowhere and deceives nobody
    name = re.sub(r'[<>:"\\|?*]|%(?=[0-9A-Fa-f]{2})|[. ]$', spelled, name)
    name = "".join(letter if letter.isprintable() else spelled(letter) for letter in name) or "%"
    return name if len(name.encode()) < 250 else name[:50] + "~" + hashlib.sha256(name.encode()).hexdigest()


def write(entry, number, target):
    digest, part = hashlib.sha256(), OUT / ".part"
    with part.open("wb") as file:
        for bundle, *place in entry["c"]:
            digest.update(data := stored(HEADS[bundle or number]["objects"], *place))
            file.write(data)
    if digest.hexdigest() != entry["h"]:
        raise ValueError("its SHA-256 is not the signed one")
    target.parent.mkdir(parents=True, exist_ok=True)
    while target.exists():
        target = target.with_name(target.name + "~")
    part.rename(target)


OUT.mkdir(mode=0o700)
OBJECTS = {path.name: path for path in SEALED.rglob("*") if re.fullmatch("[0-9a-f]{64}", path.name)}
HEADS, last = {}, None
for line in (SEALED / "heads.jsonl").read_text().splitlines():
    signed = json.loads(line)
    kind, said = signed["payloadType"].encode(), base64.b64decode(signed["payload"])
    HEADS[len(HEADS) + 1] = head = json.loads(said)
    if (head["bundle"], head["prev"]) != (len(HEADS), last):
        sys.exit(f"Head {len(HEADS)} is missing, or another stands in its place.")
    last = hashlib.sha256(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(said), said)).hexdigest()
print(f"{len(HEADS)} bundles; the newest head is {last}")

problems, seen, files, folders = 0, set(), set(), set()
fresh = max((head["replace"] or 0 for head in HEADS.values()), default=0)
for number in reversed(HEADS):
    head, entries = HEADS[number], []
    try:
        root = json.loads(made_by(base64.b64decode(head["root"]), "age", "-d", "-i", KEY).rstrip(b"\0"))
        place = (root["offset"], root["stored"], root["raw"], "zstd", 64 * MIB)
        entries = [json.loads(line) for line in stored(head["objects"], *place).splitlines()]
    except Exception as wrong:
        problems += not print(f"PROBLEM: bundle {number}: {wrong}")
    for entry in reversed(entries):
        path, file = entry["p"], {entry["p"]} if entry["t"] == "file" else set()
        above = {path[:at] for at, letter in enumerate(path) if letter == "/"}
        newest = number >= fresh and path not in seen and not above & files and not file & folders
        seen.add(path)
        folders.update(above)
        files.update(file)
        place = [] if newest else ["earlier", f"bundle {number}"]
        target = OUT.joinpath(*place, *map(safe, path.split("/")))
        try:
            if file:
                write(entry, number, target)
            elif newest:
                target.mkdir(parents=True, exist_ok=True)
        except Exception as wrong:
            problems += not print(f"PROBLEM: {path!r} of bundle {number}: {wrong}")
(OUT / ".part").unlink(missing_ok=True)
print(f"{len(files)} files, and {problems} problems")
sys.exit(problems > 0)
