"""python3 combine_by_hand.py RELEASE SHARE SHARE… > key.txt      the dossier's key, out of what opened shares hold
python3 combine_by_hand.py KEYRING > me.txt                        a person's key, out of what their keyring holds

Every file is what `age -d` made of it. RELEASE is the share that the server withheld. Needs Python 3.10.
"""

import hashlib
import json
import pathlib
import sys


def times(one, other):  # in GF(2^8), polynomial 0x11b
    product = 0
    for bit in range(8):
        product ^= one << bit if other >> bit & 1 else 0
    for bit in range(14, 7, -1):
        product ^= 0x11B << bit - 8 if product >> bit & 1 else 0
    return product


def at_zero(shares):  # byte by byte, the value at 0 of the one polynomial through all of them
    secret = bytes(32)
    for own, value in shares.items():
        factor = 1
        for other in set(shares) - {own}:
            inverse = next(x for x in range(256) if times(x, own ^ other) == 1)
            factor = times(factor, times(other, inverse))
        secret = bytes(so_far ^ times(factor, byte) for so_far, byte in zip(secret, value, strict=True))
    return secret


def share(path):
    opened = pathlib.Path(path).read_bytes()
    if len(opened) == 33:  # as a server keeps it
        return opened[0], opened[1:]
    held = json.loads(opened.rstrip(b"\0"))
    bound = bytes.fromhex(held["journalist"] + held["dossier"]) + held["epoch"].to_bytes(4, "big")
    said = b"afterword/share/v1" + bound + bytes([held["index"]]) + bytes.fromhex(held["share"])
    told = f"{path}: share {held['index']} of dossier {held['dossier']}, epoch {held['epoch']}, commitment "
    print(told + hashlib.sha256(said).hexdigest(), file=sys.stderr)
    return held["index"], bytes.fromhex(held["share"])


def polymod(values):
    check = 1
    for value in values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    return check


def identity(seed):  # Bech32, as age reads it
    name, number = "age-secret-key-pq-", int.from_bytes(seed, "big") << 4
    data = [number >> at & 31 for at in range(255, -1, -5)]
    spread = [ord(letter) >> 5 for letter in name] + [0] + [ord(letter) & 31 for letter in name]
    check = polymod(spread + data + [0] * 6) ^ 1
    data += [check >> at & 31 for at in range(25, -1, -5)]
    return (name + "1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[at] for at in data)).upper()


if len(sys.argv) == 2:
    print(identity(bytes.fromhex(json.loads(pathlib.Path(sys.argv[1]).read_bytes())["seal"])))
else:
    withheld, shares = share(sys.argv[1]), dict(map(share, sys.argv[2:]))
    print(identity(bytes(one ^ other for one, other in zip(withheld[1], at_zero(shares), strict=True))))
