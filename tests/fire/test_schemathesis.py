"""schemathesis, an independent reader of our OpenAPI document, against a real server: never a 5xx, and nothing that the
document does not know.

It lives in an environment of its own (tests/schemathesis, set up by `make`), because it brings a dozen packages and
pytest plugins that have no business in ours.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import rehearsal
from theatre import Frozen

from tests.fire.tally import FULL, MAY_LACK, count, size

ROOT = Path(__file__).parents[2]
TOOL = ROOT / ".venv-schemathesis" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.skipif(MAY_LACK and not TOOL.exists(), reason="schemathesis is not set up; `make test` does it")
@pytest.mark.parametrize("role", ["nobody", "Ana", "Bruno"][: size(2, 3)])
def test_whatever_another_reader_of_the_document_asks_is_answered_as_it_says(
    prepared: Frozen, tmp_path: Path, role: str
) -> None:
    with prepared.thaw(tmp_path / "cast") as cast:
        command = [
            str(TOOL), "run", str(ROOT / "docs" / "spec" / "openapi.json"), "--url", f"{cast.server.url}/api/v1",
            "--checks", CHECKS, "--max-examples", str(size(6, 200)), "--seed", "7", "--workers", "1", "--no-color",
            "--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off",
            "--phases", "examples,coverage,fuzzing" if FULL else "examples,fuzzing", "--max-failures", "20",
        ]  # fmt: skip
        if role != "nobody":
            session = rehearsal.session_of(cast[role])
            # To sign out would make nobody of everybody who comes after.
            command += ["-H", f"Authorization: Bearer {session.remote._connection.token}"]
            command += ["--exclude-path", "/sessions"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=3_000,
        )
        assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
        made = re.search(r"([\d,]+) generated", done.stdout)
        assert made is not None, done.stdout[-2_000:]
        count("requests by schemathesis", int(made[1].replace(",", "")))
