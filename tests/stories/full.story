$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob hello

# A mailbox that is full: what was sent waits, and goes by itself.
$ server limit --mailbox-messages 3
$ alice --quiet send bob third
$ alice send bob fourth
! messageu: The recipient's mailbox is full. {ANY} The message is kept and sent again by itself.
= 5
$ alice send bob fifth --json
! {"v": 1, "type": "error", "code": 5, {ANY}}
= 5
$ alice history
> {TIME} to bob: hello
> {TIME} to bob: third
> {TIME} to bob [waiting]: fourth
> {TIME} to bob [waiting]: fifth
$ alice doctor
> ...
> ok    outbox: 2 wait to be sent
> ...
$ bob recv
> {TIME} alice sent a symmetric key
> {TIME} alice: hello
> {TIME} alice: third
$ bob -q recv
$ alice recv
! The text for bob of {TIME} is sent now.
! The text for bob of {TIME} is sent now.
! No messages wait.
$ bob recv
> {TIME} alice: fourth
> {TIME} alice: fifth

# Too large for the server.
$ server limit --largest-message 100000
$ fill large.bin 200000
$ alice send bob --file {HOME}/large.bin
! messageu: {ANY}too large for this server{ANY}
= 5

# No room on our own disk: what came is kept at the server, or here, until there is.
$ server limit
$ alice -q send bob --file {HOME}/large.bin
$ disk 150000 bob recv
! messageu: There is no room to write {PATH} (File too large). Free some space and try again.
= 1
$ bob recv --save-dir /proc/nowhere
! messageu: A received file can't be saved in /proc/nowhere ({ANY}); it is kept. Make room, or choose another folder with --save-dir, then receive again.
= 1
$ bob recv
> {TIME} alice sent a file: {PATH}/received/messageu-alice-{NUMBER}
$ disk 150000 alice send bob --file {HOME}/large.bin
! messageu: There is no room to write {PATH} (File too large). Free some space and try again.
= 1
$ alice send bob --file {HOME}/large.bin
! {PATH} is sent to bob.
$ disk 2000 dave register dave
! messageu: {ANY}
= 1
$ disk 20000 alice export {HOME}/alice.backup --passphrase-file {HOME}/pass
! messageu: {ANY}
= 2
