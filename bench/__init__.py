"""How fast and how small the server is, measured from outside.

Owns: the load generator, the runs, their tables and files.
Promises: measures through the published protocol alone, so that any version of the server, and
other servers, can be measured beside each other in one run; bounded in count and time; traffic
stays on the loopback interface.
"""
