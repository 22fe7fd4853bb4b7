"""The OpenAPI document as it was served, read by a validator that knows nothing of the server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator


class Document:
    """What it declares and what it forbids."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def validator(self, schema: Any) -> Draft202012Validator:
        """Of a schema that may refer to the components."""
        return Draft202012Validator({"components": self.told["components"], "allOf": [schema]})

    def permits(self, path: str, kind: str, body: Any) -> bool:
        """Whether a body of a media type is one that the document describes."""
        content = self.told["paths"][path]["post"]["requestBody"]["content"]
        return kind in content and bool(self.validator(content[kind]["schema"]).is_valid(body))

    def check(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The status, the media type, the headers and the content of an answer are declared."""
        responses = self.told["paths"][path][method.lower()]["responses"]
        assert str(status) in responses, (method, path, status, body[:300])
        kind, declared = headers["content-type"].partition(";")[0], responses[str(status)]["content"]
        assert kind in declared, (method, path, status, kind, body[:300])
        own = {name.lower() for name in responses[str(status)].get("headers", {})}
        assert {name for name in headers if name.startswith(("x-tsforecast", "retry", "www-"))} <= own, (
            path,
            status,
            headers,
        )
        text = body.decode()
        self.validator(declared[kind]["schema"]).validate(json.loads(text) if kind == "application/json" else text)
