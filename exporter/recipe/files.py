"""Recipes from and to TOML files and plain data."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from exporter.errors import RecipeError
from exporter.recipe import toml
from exporter.recipe.check import check
from exporter.recipe.tables import Recipe, Table

__all__ = ["from_dict", "read_recipe", "schema", "to_dict", "to_toml"]


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Raises RecipeError (one line: file, key, what was found, what was expected)."""
    try:
        body = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not text in UTF-8 (byte {error.start})", "a recipe is a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    return from_dict(body, str(path))


def from_dict(body: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The recipe of plain data. Raises RecipeError, which names ``where``."""
    check(body, Recipe, where)
    return msgspec.convert(body, Recipe)


def to_dict(recipe: Table) -> dict[str, Any]:
    """A recipe, or one of its tables, as plain data; defaults and empty tables are left out."""
    body: dict[str, Any] = _without_empty_tables(msgspec.to_builtins(recipe))
    return body


def to_toml(recipe: Recipe) -> str:
    """Text that reads back to an equal recipe; the same recipe gives the same text."""
    return toml.document(to_dict(recipe))


def schema() -> dict[str, Any]:
    """JSON Schema of the file, for editors; published as recipe.schema.json."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "kbit recipe"}
    return head | msgspec.json.schema(Recipe)


def _without_empty_tables(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    filled = {name: _without_empty_tables(item) for name, item in body.items()}
    return {name: item for name, item in filled.items() if item is not None and item != {}}
