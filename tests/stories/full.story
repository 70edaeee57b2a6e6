$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob hello

# A mailbox that is full: what was sent waits, and goes by itself.
$ server limit --mailbox-messages 2 --sender-share 100
$ alice --quiet send bob third
$ alice send bob fourth
! messageu: The recipient's mailbox is full. {ANY} The message is kept and will be sent again.
= 5
$ alice send bob fifth --json
! {"v": 1, "type": "error", "code": 5, {ANY}}
= 5
$ alice history
> {TIME} to bob [suite 1]: hello
> {TIME} to bob [suite 1]: third
> {TIME} to bob [waiting, suite 1]: fourth
> {TIME} to bob [waiting, suite 1]: fifth
$ alice doctor
> ...
> ok    outbox: 2 wait to be sent
> ...
$ bob recv
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

# A mailbox that is more than half full, of which one sender may have a part: others can still send.
$ carol --quiet register carol
> ...
$ server limit --mailbox-messages 6 --sender-share 34
$ alice -q send bob one
$ alice -q send bob two
$ alice -q send bob three
$ alice send bob four
! messageu: The recipient's mailbox is filling up, and holds as much from you as one sender may have. {ANY} The message is kept and will be sent again.
= 5
$ carol -q send bob "There is room for me."
$ bob recv
> {TIME} alice: one
> {TIME} alice: two
> {TIME} alice: three
> {TIME} carol: There is room for me.
$ alice -q recv
$ bob recv
> {TIME} alice: four

# No file to send, and none that can be.
$ alice send bob --file {HOME}/nothing
! messageu: There is no file {PATH}/nothing; nothing was sent. Check the path.
= 2
$ alice send bob --file {HOME}
! messageu: {PATH} is no regular file; nothing was sent. Name a file; pack a folder first.
= 2

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
> {TIME} alice [1 missing before it] sent a file: {PATH}/large.bin
$ disk 150000 alice send bob --file {HOME}/large.bin
! messageu: There is no room to write {PATH} (File too large). Free some space and try again.
= 1
$ alice send bob --file {HOME}/large.bin
! {PATH} is sent to bob.
$ disk 2000 dave register dave
! messageu: {PATH}/dave/store.db can't be used (disk I/O error). Check the folder, its permissions and the disk.
= 1

# No room for the export of a home: there is no file then.
$ server limit --mailbox-messages 1
$ alice -q send bob --file {HOME}/large.bin
! messageu: The recipient's mailbox is full. {ANY}
= 5
$ write pass "correct horse"
$ disk 150000 alice export {HOME}/alice.backup --passphrase-file {HOME}/pass
! messageu: There is no room to write {PATH}/alice.backup (File too large). Free some space and try again.
= 1
$ disk 150000 alice export {HOME}/alice.backup --passphrase-file {HOME}/pass --json
! {"v": 1, "type": "error", "code": 1, "error": "file-unwritten", "text": "There is no room to write {PATH}/alice.backup (File too large).", "advice": "Free some space and try again.", "nearest": []}
= 1
$ alice export {HOME}/alice.backup --passphrase-file {HOME}/pass
! All of {PATH} is in {PATH}/alice.backup, encrypted. Use one of the two homes from now on, not both.

# No room for the home that is restored: nothing of it is there.
$ disk 150000 laptop import {HOME}/alice.backup --passphrase-file {HOME}/pass
! messageu: There is no room to write {PATH}/laptop/.importing/{ANY} (File too large); nothing was imported. Free some space and try again.
= 1
$ laptop import {HOME}/alice.backup --passphrase-file {HOME}/pass
! {PATH} is restored in {PATH}. Use one of the two homes from now on, not both.

# A key that can't be written: nothing was registered.
$ write dave/.my.info.pending.new/wall "in the way"
$ dave register dave
! messageu: {PATH}/dave/my.info.pending can't be written (Is a directory). Check the folder, its permissions and the disk.
= 1
$ dave register dave --json
! {"v": 1, "type": "error", "code": 1, "error": "file-unwritten", {ANY}}
= 1
$ alice users
> bob (suite 1)
> carol
