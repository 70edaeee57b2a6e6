"""Who talks to which server: what every use case that does so needs.

Owns: nothing but the bundle.
Promises: no behaviour; the four belong to one home and one connection.
Exposure: none of its own.
"""

from typing import NamedTuple

from client.connection.handshake import Greeting
from client.connection.server_link import ServerLink
from client.identity.account import Account
from client.store.home_store import Store


class ClientContext(NamedTuple):
    """A home's user and store, the link to the server, and what its greeting came to."""

    account: Account
    store: Store
    link: ServerLink
    greeting: Greeting
