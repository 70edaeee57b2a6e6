"""What is in store.db: one module for each thing that is kept there.

Owns: the schema and every SQL statement of the client; `client.store.home_store` opens the store
and has its parts.
Promises: what a method stored is on disk when it returns; a method makes its changes in one
transaction.
Exposure: as `client.store.home_store`.

    module     what it knows
    ────────   ──────────────────────────────────────────────────────────────────────
    schema     the tables, and what each version added
    database   opening and migrating, transactions, failures in words
    sealing    which columns are secret, and how they are sealed under a passphrase
    settings   settings and cursors, and the server of the first proof
    contacts   whom the server listed
    pins       under which id and key a name was first met
    keys       symmetric keys
    own_keys   this account's keys of cipher suite 1
    peers      who has shown keys of suite 1, and the sessions with them
    inbox      received messages
    outbox     messages to be sent
    sent       what was sent, for the history
    spool      large contents, in files beside the database
"""
