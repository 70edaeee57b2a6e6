$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob hello
$ write pass "correct horse"
$ write wrong "incorrect horse"
$ alice export {HOME}/alice.backup
! messageu: There is no terminal to ask for the passphrase. Use --passphrase-file PATH.
= 2
$ alice export {HOME}/alice.backup --passphrase-file {HOME}/pass
! All of {PATH} is in {PATH}, encrypted. Use one of the two homes from now on, not both.
$ alice export {HOME}/alice.backup --passphrase-file {HOME}/pass
! messageu: {PATH}: exists, and it is not overwritten. Name another file.
= 2
$ alice import {HOME}/alice.backup --passphrase-file {HOME}/pass
! messageu: {PATH} exists, and it is not replaced; nothing was imported. Use --home for a new folder.
= 2
$ laptop import {HOME}/alice.backup --passphrase-file {HOME}/wrong
! messageu: {PATH} can't be opened: another passphrase, a damaged file, or no export.
= 2
$ laptop import {HOME}/pass --passphrase-file {HOME}/pass
! messageu: {PATH} can't be opened: another passphrase, a damaged file, or no export.
= 2
$ laptop import {HOME}/alice.backup --passphrase-file {HOME}/pass
! {PATH} is restored in {PATH}. Use one of the two homes from now on, not both.
$ laptop history
> {TIME} to bob [suite 1]: hello
$ laptop send bob "from the laptop"
! This home was copied, or restored from a copy: its keys may have been used since. New ones are made, and those with whom you write under the modern cipher suite are told so.
! Sent to bob.
$ bob recv
> {TIME} alice: hello
> {TIME} alice has begun new sessions, because a home was copied or restored from a copy; what you sent there just now may not have been opened
> {TIME} alice: from the laptop
