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
! 1 could not be decrypted. It is kept, and shown as soon as a key that fits is here; ask the sender for a new symmetric key, or to send it again.
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

# Both make a key before either has heard of the other's: texts and files are read all the same.
$ carol --quiet register carol
> ...
$ dave --quiet register dave
> ...
$ write file words
$ carol -q send dave "hello dave" --file {HOME}/file
$ dave -q send carol "hello carol" --file {HOME}/file
$ carol recv
> {TIME} dave sent a symmetric key that was not asked for; it takes the place of the one in use
> {TIME} dave: hello carol
> {TIME} dave sent a file: {PATH}
$ dave recv
> {TIME} carol sent a symmetric key that was not asked for; it takes the place of the one in use
> {TIME} carol: hello dave
> {TIME} carol sent a file: {PATH}
$ carol -q send dave --file {HOME}/file
$ dave -q send carol --file {HOME}/file
$ carol recv
> {TIME} dave sent a file: {PATH}
$ dave recv
> {TIME} carol sent a file: {PATH}
