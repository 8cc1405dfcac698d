"""Values that nobody changes: mypy holds these dataclasses to be frozen, at run time nothing checks it.

A frozen dataclass calls ``object.__setattr__`` for each field that it is made with, and every call makes some hundred
fields. What the code of others may get hold of, such as the reply that a rule sees, is frozen for good.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record[T](cls: type[T]) -> type[T]:
    """A dataclass with slots, equal and hashed by its fields, whose fields are not assigned once it is made."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
