"""The vocabulary that the three programs share.

Owns: values, operations, errors, the two wire languages and the info files.
Promises: pure code; nothing here opens a socket, reads a clock or imports one of the programs.
"""
