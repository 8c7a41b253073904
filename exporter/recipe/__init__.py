"""The recipe: one TOML file that describes a run. Every key is also a command-line flag and a Python argument."""

from __future__ import annotations

from exporter.recipe.files import from_dict, read_recipe, schema, to_dict, to_toml
from exporter.recipe.keys import KEYS, Key, from_command, is_callable_name, parse_input, with_arguments, with_overrides
from exporter.recipe.tables import (
    Activations,
    Data,
    Dtype,
    Gates,
    Granularity,
    InputSpec,
    Language,
    Law,
    LogMel,
    Model,
    Override,
    Preprocess,
    Quantize,
    Recipe,
    Rounder,
    Targets,
    Weights,
)

__all__ = [
    "KEYS",
    "Activations",
    "Data",
    "Dtype",
    "Gates",
    "Granularity",
    "InputSpec",
    "Key",
    "Language",
    "Law",
    "LogMel",
    "Model",
    "Override",
    "Preprocess",
    "Quantize",
    "Recipe",
    "Rounder",
    "Targets",
    "Weights",
    "from_command",
    "from_dict",
    "is_callable_name",
    "parse_input",
    "read_recipe",
    "schema",
    "to_dict",
    "to_toml",
    "with_arguments",
    "with_overrides",
]
