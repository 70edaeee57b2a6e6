"""Cipher suite 1: what one client of ours seals for another.

`docs/suite-1.md` is its specification. Nothing here reads or writes files, sockets or clocks: every
state is a value that goes to bytes and back, and the caller saves it in the transaction in which it
saves the message.
"""
