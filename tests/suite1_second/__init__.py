"""A second implementation of cipher suite 1, from the text of docs/suite-1.md alone.

It shows that the text suffices, and that the vectors mean what the text says. It shares nothing
with `client/suite1`, not even the libraries above the primitives: Olm, X-Wing, HPKE, the file's
stream and CBOR are written out here, over X25519, Ed25519, ML-KEM, HMAC and two AEADs of
`cryptography`. It is for tests: nothing is wiped, and nothing runs in constant time.
"""
