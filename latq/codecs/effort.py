"""How long an encoder searches."""

from typing import Literal

Effort = Literal["fast", "default", "best"]
