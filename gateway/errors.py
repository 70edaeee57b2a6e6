"""Why a gateway does not start, or ends by itself.

Owns: the gateway's exceptions. Promises: each ends the process, with a sentence for the operator;
nothing that a client does raises one.
Exposure: none; sentences reach the log.

The roots, and what the programs share, are in common/errors.py.
"""

from common.errors import MessageUError


class SlotInUse(MessageUError):
    """Another gateway runs on this data folder and slot."""


class GatewaySuperseded(MessageUError):
    """The storage worker serves a later gateway on this slot."""


class WrongWorker(MessageUError):
    """A storage worker is not the one that its place in the gateway's list says."""
