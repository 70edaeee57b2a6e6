# Whatever is said to be kept comes, once and in order, a first key included.
$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ carol --quiet register carol
> ...
$ alice --quiet key bob
> ...
$ write one words
$ write two "more words"

$ server stop
$ alice send bob "first" --file {HOME}/one --file {HOME}/two
! {PATH}/one is kept too.
! {PATH}/two is kept too.
! messageu: There is no server at {ANY} The message is kept; it is sent, once, before anything else that you send.
= 3
$ alice history
> {TIME} to bob [waiting, suite 1]: first
> {TIME} to bob [waiting, suite 1]: the file {PATH}/one
> {TIME} to bob [waiting, suite 1]: the file {PATH}/two

# Whom one never met has no key here that one could be sealed to.
$ carol send bob "never met"
! messageu: There is no server at 127.0.0.1:{NUMBER} (Connection refused). Check that the server runs and that server.info has its address.
= 3
$ carol history
! Nothing like that in the history.

$ server start
$ alice --quiet recv
$ bob recv
> {TIME} alice: first
> {TIME} alice sent a file: {PATH}/one
> {TIME} alice sent a file: {PATH}/two

# A mailbox that has no room even for the key.
$ alice send bob "the mailbox" --file {HOME}/one
! Sent to bob.
! {PATH}/one is sent to bob.
$ server limit --mailbox-messages 2
$ carol send bob "hello" --file {HOME}/one
! {PATH}/one is kept too.
! messageu: The recipient's mailbox is full. Wait until the recipient has fetched. It asks to wait 30 s. The message is kept and will be sent again.
= 5
$ server limit
$ bob --quiet recv
> ...
$ carol --quiet recv
$ bob recv
> {TIME} carol: hello
> {TIME} carol sent a file: {PATH}

# To several people at once: each has an outcome of its own, and a program reads of each message what became of it.
$ alice send --to bob --to carol "to both" --file {HOME}/one
! Sent to bob.
! {PATH}/one is sent to bob.
! Sent to carol.
! {PATH}/one is sent to carol.
$ alice send --to nobody --to bob --json "to one of two"
> {"v": 1, "type": "sent", "to": "bob", {ANY}}
! {"v": 1, "type": "error", "code": 7, "error": "no-such-user", {ANY}"kept": false, "to": "nobody", "kind": "text"}
= 7
$ alice send --to nobody --to bob "to one of two"
! messageu: nobody: The server knows nobody of that name. {ANY}
! Sent to bob.
= 7
$ server stop
$ alice send bob --file {HOME}/one {HOME}/two --json
! {"v": 1, "type": "error", "code": 3, "error": "no-server", {ANY}"kept": true, "to": "bob", "kind": "file", "path": "{PATH}/one"}
! {"v": 1, "type": "error", "code": 3, "error": "no-server", {ANY}"kept": true, "to": "bob", "kind": "file", "path": "{PATH}/two"}
= 3
$ alice send --to bob --to nobody "half of it"
! messageu: bob: There is no server at {ANY} The message is kept; {ANY}
! messageu: nobody: There is no server at {ANY}
= 3
$ server start
