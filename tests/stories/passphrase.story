$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob hello
$ write pass "correct horse"
$ write wrong "incorrect horse"
$ write other "battery staple"
$ bob --quiet recv --max 2
> ...
$ bob passphrase set
! messageu: There is no terminal to ask for the passphrase. Use --new-passphrase-file PATH.
= 2
$ bob passphrase set --new-passphrase-file {HOME}/pass
! ...
$ bob history
! messageu: {ANY}
= 2
$ bob history --passphrase-file {HOME}/wrong
! messageu: {ANY}
= 2
$ bob history --passphrase-file {HOME}/pass --search hello
> {TIME} alice: hello
$ bob passphrase change --passphrase-file {HOME}/pass --new-passphrase-file {HOME}/other
! ...
$ bob history --passphrase-file {HOME}/pass
! messageu: {ANY}
= 2
$ bob passphrase remove --passphrase-file {HOME}/other
! ...
$ bob history --search hello
> {TIME} alice: hello
