"""The API as an OpenAPI 3.1 document.  Spec: docs/spec/api-v1.md; kept as docs/spec/openapi.json.

Rule of this room: nothing is said here that the structs of vault/wire.py and the table of web/contract.py do not say.
The document is a file, not an address: whoever needs it has the sources, and a server says no more than it must.
"""

import re
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

import msgspec

from vault import wire
from vault.stream import OBJECT_SIZE
from web.contract import REFUSALS, ROUTES, WITHOUT_SESSION, Route
from web.examples import EXAMPLES

Json = dict[str, Any]  # Any: JSON is nested to any depth

_ABOUT: Final = """\
Bodies are JSON, one struct each: unknown keys are refused in requests and to be ignored in answers. Signed
statements travel as text inside, exactly as signed; sealed blobs as standard padded base64. Ids and hashes are
lower-case hexadecimal, times whole milliseconds. HEAD is answered wherever GET is. What the statements say, and what
has to be verified by whom, is in docs/spec/api-v1.md and docs/spec/statements-v1.md."""
_OBJECT: Final = {"type": "string", "format": "binary", "maxLength": OBJECT_SIZE}
_BYTES: Final = "application/octet-stream"
_PARAMETERS: Final[dict[str, tuple[str, Json]]] = {
    "dossier": ("The dossier's id.", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
    "name": ("SHA-256 of the object's bytes.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    "address": ("The address's id, as AddressState gives it.", {"type": "string"}),
    "epoch": ("The epoch that the corrections belong to.", {"type": "integer", "minimum": 0}),
}
_HEADERS: Final[dict[str, dict[str, tuple[str, Json]]]] = {
    "PUT": {
        "Content-Range": ("`bytes FIRST-LAST/1048576`, to go on at `Upload-Offset`.", {"type": "string"})
    },
    "GET": {"Range": ("One range of bytes.", {"type": "string"})},
}
_SAID: Final[dict[tuple[str, int], dict[str, str]]] = {
    ("HEAD", 200): {"Upload-Offset": "1048576", "Content-Length": "1048576"},
    ("HEAD", 404): {"Upload-Offset": "How many bytes of an interrupted upload are here."},
    ("PUT", 409): {"Upload-Offset": "With `wrong-offset`: where to go on."},
    ("GET", 206): {"Content-Range": "`bytes FIRST-LAST/1048576`"},
    ("GET", 416): {"Content-Range": "`bytes */1048576`"},
}


def document() -> Json:
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Afterword",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": wire.API}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of POST /sessions; it lives for 30 minutes.",
                }
            },
        },
    }


def write() -> bytes:
    """The document as it is kept."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


def _schemas() -> Json:
    _, schemas = msgspec.json.schema_components(
        [type(each) for each in EXAMPLES], ref_template="#/components/schemas/{name}"
    )
    shown = {type(each).__name__: msgspec.to_builtins(each) for each in EXAMPLES}
    for name, schema in schemas.items():
        if name in shown:
            schema["examples"] = [shown[name]]
    return {name: _for_every_reader(schemas[name]) for name in sorted(schemas)}


def _for_every_reader(schema: Any) -> Any:  # Any: JSON
    """Python's `\\Z` is `$` in the regular expressions of JSON Schema."""
    match schema:
        case dict():
            return {
                key: value.replace("\\Z", "$") if key == "pattern" else _for_every_reader(value)
                for key, value in schema.items()
            }
        case list():
            return [_for_every_reader(each) for each in schema]
        case _:
            return schema


def _operation(route: Route) -> Json:
    told: Json = {
        "operationId": _name(route),
        "summary": route.does,
        "description": f"Who: {route.who[0].lower()}{route.who[1:]}",
    }
    if parameters := _parameters(route):
        told["parameters"] = parameters
    if route.who not in WITHOUT_SESSION:
        told["security"] = [{"session": []}]
    if route.takes is not None:
        told["requestBody"] = {"required": True, "content": _content(route.takes)}
    told["responses"] = _responses(route)
    return told


def _name(route: Route) -> str:
    parts = re.findall(r"[a-z]+", route.path.replace("{", "of-").lower())
    return "-".join([route.method.lower(), *parts])


def _parameters(route: Route) -> list[Json]:
    names = re.findall(r"{([a-z]+)}", route.path)
    told = [
        {"name": name, "in": "path", "required": True, "description": about, "schema": schema}
        for name, (about, schema) in ((name, _PARAMETERS[name]) for name in names)
    ]
    if route.query is not None:
        schema = {"type": "integer", "minimum": 0, "exclusiveMaximum": 10**15, "default": 0}
        told.append({"name": "after", "in": "query", "description": route.query, "schema": schema})
    if route.path.endswith("{name}"):
        told += [
            {"name": name, "in": "header", "description": about, "schema": schema}
            for name, (about, schema) in _HEADERS.get(route.method, {}).items()
        ]
    return told


def _responses(route: Route) -> Json:
    refused = {
        status: list(codes)
        for status, codes in groupby(
            sorted(route.refusals(), key=lambda code: (REFUSALS[code][0], code)),
            lambda code: REFUSALS[code][0],
        )
    }
    told: Json = {}
    for status in sorted({*route.statuses, *refused}):
        codes = refused.get(status, [])
        content: Json = {}
        if status in route.statuses and route.gives is not None:
            content.update(_content(route.gives))
        if codes and route.method != "HEAD":
            content["application/problem+json"] = {"schema": {"$ref": "#/components/schemas/Problem"}}
        said: Json = {"description": _describe(status, codes, status in route.statuses)}
        headers = _SAID.get((route.method, status)) if route.path.endswith("{name}") else None
        if headers:
            said["headers"] = {
                name: {"description": about, "schema": {"type": "string"}} for name, about in headers.items()
            }
        if content:
            said["content"] = content
        if codes:
            said["x-codes"] = codes
        told[str(status)] = said
    return told


def _describe(status: int, codes: list[str], good: bool) -> str:
    lines = [HTTPStatus(status).phrase + "."] if good else []
    lines += [f"`{code}`: {REFUSALS[code][1]}." for code in codes]
    return "\n".join(lines)


def _content(shape: type[msgspec.Struct] | type[bytes]) -> Json:
    if issubclass(shape, msgspec.Struct):
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape.__name__}"}}}
    return {_BYTES: {"schema": _OBJECT}}
