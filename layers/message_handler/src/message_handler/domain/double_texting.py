"""What becomes of a message that comes while another is being answered."""

from __future__ import annotations

from typing import Literal

#: What becomes of a message that comes while another is being answered.
DoubleTexting = Literal["consolidate", "enqueue", "interrupt", "reject"]
