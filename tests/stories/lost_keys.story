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
> {TIME} alice sent something that can't be decrypted: no symmetric key is shared with the sender
! 1 could not be decrypted. It is kept, and shown as soon as its key is here; ask the sender for a new symmetric key.
= 9
$ laptop recv
! No messages wait.
$ laptop history --json
> {"v": 1, "type": "message", {ANY}"kind": "unreadable", {ANY}"problem": "no symmetric key is shared with the sender", "advice": "It is kept, {ANY}"}

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
> {TIME} alice [late] sent something that can't be decrypted: {ANY}
> {TIME} alice sent a symmetric key
> {TIME} alice: third
