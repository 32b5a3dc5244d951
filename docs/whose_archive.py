"""python3 whose_archive.py CARD HEADS      who signed the newest head; CARD is a card.json, HEADS a heads.jsonl

Needs Python 3.10 and the command `openssl` (3 or newer). The heads before the newest need no look of their own: each
head holds the hash of the one before it, and recover_without_afterword.py has compared them.
"""

import base64
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

PUBLIC_KEY = bytes.fromhex(
    "302a300506032b6570032100"
)  # what stands before the 32 bytes of an Ed25519 key in DER


def signed(text, kind, verify=None):  # what a statement says, and its hash; a card names its own key
    envelope = json.loads(text)
    of, said = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    whole = b"DSSEv1 %d %b %d %b" % (len(of), of, len(said), said)
    if of != b"application/vnd.afterword.%b.v1+json" % kind:
        sys.exit(f"This is no {kind.decode()}.")
    key = PUBLIC_KEY + bytes.fromhex(verify or json.loads(said)["verify"])
    with tempfile.TemporaryDirectory() as folder:
        parts = {"key": key, "sig": base64.b64decode(envelope["signatures"][0]["sig"]), "whole": whole}
        for name, data in parts.items():
            pathlib.Path(folder, name).write_bytes(data)
        command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -sigfile sig -rawin -in whole"
        if subprocess.run(command.split(), cwd=folder, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"The signature of this {kind.decode()} does NOT hold, or openssl is too old to tell.")
    return json.loads(said), hashlib.sha256(whole).digest()


card, fingerprint = signed(pathlib.Path(sys.argv[1]).read_text(), b"card")
head, newest = signed(pathlib.Path(sys.argv[2]).read_text().splitlines()[-1], b"head", card["verify"])
print(f"Bundle {head['bundle']}, head {newest.hex()},")
print(
    f"is signed by the card of {card['label']!r}: {base64.b32encode(fingerprint[:14])[:22].decode().lower()}"
)
