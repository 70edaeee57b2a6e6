$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ write pass "correct horse"
$ bob export {HOME}/old.backup --passphrase-file {HOME}/pass
! ...
$ alice --quiet send bob "first"
$ bob --quiet recv
> ...

# A backup of before does not have the key.
$ laptop import {HOME}/old.backup --passphrase-file {HOME}/pass
! ...
$ alice --quiet send bob "second"
$ laptop recv
> {TIME} alice [1 missing before it]: second
$ laptop recv
! No messages wait.
$ laptop history --json
> {"v": 1, "type": "message", "direction": "in", "number": 1, "name": "alice", "id": "{HEX}", "kind": "text", "accepted_at": {NUMBER}, "received_at": {NUMBER}, "sender_proven": true, "sender_verified": false, "suite": 1, "late": false, "repeated": false, "missing": 1, "overtaken": false, "new_session": false, "text": "second"}

# A new key, and what comes under it is read; what was under the lost one stays named.
$ alice console
< 152
< bob
> ...
$ alice --quiet send bob "third"
$ laptop recv
> {TIME} alice sent a symmetric key
> {TIME} alice: third
$ laptop history
> {TIME} alice [1 missing before it, suite 1]: second
> {TIME} alice [suite 1] sent a symmetric key
> {TIME} alice [suite 1]: third

# Both make a key before either has heard of the other's: texts and files are read all the same.
$ carol --quiet register carol
> ...
$ dave --quiet register dave
> ...
$ write file words
$ carol -q send dave "hello dave" --file {HOME}/file
$ dave -q send carol "hello carol" --file {HOME}/file
$ carol recv
> {TIME} dave: hello carol
> {TIME} dave sent a file: {PATH}/file
$ dave recv
> {TIME} carol: hello dave
> {TIME} carol sent a file: {PATH}/file
$ carol -q send dave --file {HOME}/file
$ dave -q send carol --file {HOME}/file
$ carol recv
> {TIME} dave sent a file: {PATH}
$ dave recv
> {TIME} carol sent a file: {PATH}
