"""Why a gateway does not start, or ends by itself.

Owns: the gateway's exceptions. Promises: either ends the process for good, with a sentence for the
operator, and is raised for nothing that a client does.
Exposure: none; sentences reach the log.

The roots, and what the programs share, are in common/errors.py.
"""

from common.errors import MessageUError


class SlotInUse(MessageUError):
    """Another gateway runs on this data folder and slot."""


class GatewaySuperseded(MessageUError):
    """The storage worker serves a later gateway on this slot."""
