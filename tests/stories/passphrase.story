$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob "before the passphrase"
$ write right "correct horse"
$ write other "battery staple"

# There is no terminal here: nothing is asked.
$ nobody passphrase set --new-passphrase-file {HOME}/right
! messageu: This home has no identity yet. Register first: `messageu register NAME`, or 110 in the console.
= 8
$ alice passphrase set
! messageu: There is no terminal to ask for the passphrase. Use --new-passphrase-file PATH.
= 2
$ alice passphrase change --new-passphrase-file {HOME}/right
! messageu: {PATH} has no passphrase: `messageu passphrase set` sets one.
= 2
$ alice passphrase set --new-passphrase-file {HOME}/right
! The private key and the store of {PATH} are encrypted. Nobody can read them without the passphrase.
$ alice passphrase set --new-passphrase-file {HOME}/right
! messageu: {PATH} has a passphrase already: `messageu passphrase change` changes it.
= 2

# Everything needs it now.
$ alice history
! messageu: This home is locked with a passphrase, and nothing gives it. Use --passphrase-file or {ANY}
= 2
$ alice --json whoami
! {"v": 1, "type": "error", "code": 2, "error": "passphrase-needed", {ANY}}
= 2
$ alice --json send bob x --passphrase-file {HOME}/other
! {"v": 1, "type": "error", "code": 2, "error": "passphrase-wrong", {ANY}}
= 2
$ alice history --passphrase-file {HOME}/other
! messageu: That is not the passphrase of {PATH}; nothing was changed. Try again.
= 2
$ alice history --search PASSPHRASE --passphrase-file {HOME}/right
> {TIME} to bob [suite 1]: before the passphrase
$ alice send bob "under the passphrase" --passphrase-command "cat {HOME}/right"
! Sent to bob.
$ alice history --passphrase-command "false"
! messageu: The passphrase command 'false' failed with exit code 1.
= 2
$ bob recv
> ...
> {TIME} alice: under the passphrase
$ bob --quiet send alice "an answer"
$ alice recv --passphrase-file {HOME}/right
> {TIME} bob: an answer

# Changed, then removed.
$ alice passphrase change --passphrase-file {HOME}/other --new-passphrase-file {HOME}/right
! messageu: That is not the passphrase of {PATH}; nothing was changed. Try again.
= 2
$ alice passphrase change --passphrase-file {HOME}/right --new-passphrase-command "cat {HOME}/other"
! {PATH} has another passphrase now.
$ alice history --search answer --passphrase-file {HOME}/other
> {TIME} bob [suite 1]: an answer
$ alice passphrase remove --passphrase-file {HOME}/other
! {PATH} has no passphrase any more: its private key and its store are not encrypted.
$ alice history --search answer
> {TIME} bob [suite 1]: an answer
