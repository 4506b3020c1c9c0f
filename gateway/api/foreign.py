"""The foreign dialects that can be served."""

from typing import Final

from gateway.api.dialect import Dialect
from gateway.api.dialects import cloudmails, guide, iassmtp, overton, sendmux

DIALECTS: Final[tuple[Dialect, ...]] = (
    overton.DIALECT,
    cloudmails.DIALECT,
    sendmux.DIALECT,
    guide.DIALECT,
    iassmtp.DIALECT,
)
