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
! A new symmetric key is made, and waits, for bob.
! {PATH}/one is kept too.
! {PATH}/two is kept too.
! messageu: There is no server at {ANY} The message is kept; it is sent, once, before anything else that you send.
= 3
$ alice history
> {TIME} to bob [waiting]: first
> {TIME} to bob [waiting]: the file {PATH}/one
> {TIME} to bob [waiting]: the file {PATH}/two

# Whom one never met has no key here that one could be sealed to.
$ carol send bob "never met"
! messageu: There is no server at 127.0.0.1:{NUMBER} (Connection refused). Check that the server runs and that server.info has its address.
= 3
$ carol history
! Nothing like that in the history.

$ server start
$ alice --quiet recv
$ bob recv
> {TIME} alice sent a symmetric key
> {TIME} alice: first
> {TIME} alice sent a file: {PATH}
> {TIME} alice sent a file: {PATH}

# A mailbox that has no room even for the key.
$ alice send bob "the mailbox" --file {HOME}/one
! Sent to bob.
! {PATH}/one is sent to bob.
$ server limit --mailbox-messages 2
$ carol send bob "hello" --file {HOME}/one
! A new symmetric key is made, and waits, for bob.
! {PATH}/one is kept too.
! messageu: {ANY} kept {ANY}
= 5
$ server limit
$ bob --quiet recv
> ...
$ carol --quiet recv
$ bob recv
> {TIME} carol sent a symmetric key
> {TIME} carol: hello
> {TIME} carol sent a file: {PATH}
