"""The JSON Schema of build specs, for editors.

Here: the schema of the structs, with sources of the catalog beside the other kinds.
Elsewhere: the structs (build.py, kinds.py), making catalog sources concrete (catalog.resolve).
"""

from __future__ import annotations

from typing import Any

import msgspec

from shardkit.spec.build import BuildSpec
from shardkit.spec.catalog.resolve import KIND, CatalogReference


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of build specs."""
    schema = msgspec.json.schema(BuildSpec)
    name = CatalogReference.__name__
    reference = msgspec.json.schema(CatalogReference)["$defs"][name]
    reference["properties"] = {"kind": {"const": KIND}, **reference["properties"]}
    reference["required"] = ["kind", *reference["required"]]
    _offer(schema["$defs"], name)
    schema["$defs"][name] = reference
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _offer(node: Any, name: str) -> None:
    """Wherever a kind of source may stand, let the catalog's stand too."""
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _offer(inner, name)
    if isinstance(node, dict) and node.get("discriminator", {}).get("propertyName") == "kind":
        node["anyOf"].append({"$ref": f"#/$defs/{name}"})
        node["discriminator"]["mapping"][KIND] = f"#/$defs/{name}"
