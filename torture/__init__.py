"""Torture: the server's guarantees under kills, cuts and fills, counted by a checker that can fail.

Owns: the drills, the clients that they drive, and the checker of what came back.
Promises: every drill works on a server of its own in a folder of its own, and ends what it started.
Exposure: 127.0.0.1 only.
"""
