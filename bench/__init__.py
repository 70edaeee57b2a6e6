"""How fast and how small the server is, measured from outside.

Owns: the load generator, the runs, their tables and files.
Promises: measures only through the published protocol, so that any version of the server, and other
servers, can be compared in one run; bounded in count and time; traffic stays on the loopback
interface.
"""
