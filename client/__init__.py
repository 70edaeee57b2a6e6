"""The client: a numbered console, and the library beneath it.

Owns: one user's identity, contacts, keys and mail, in one folder, the home.
Promises: `client.messenger.Messenger` is the library's main class; `python -m client` is the
console.
"""
