# Options at every place, and texts that begin with a dash: none is lost without a word.
$ alice --quiet register alice
> ...
$ bob --quiet register bob
> ...
$ alice --quiet send bob one word
$ alice send bob --quiet in between
$ alice send --json bob behind -q the name
> {"v": 1, "type": "sent", "to": "bob", {ANY}}
$ alice send bob -h
! messageu: -h is in the place of the text. To send it: `messageu send bob -- -h`. {ANY}
= 2
$ alice send bob --help
! messageu: --help is in the place of the text. To send it: `messageu send bob -- --help`. {ANY}
= 2
$ alice send bob -x
! messageu: There is no option -x. A word that is not an option goes after `--`: `messageu send bob -- -x`. {ANY}
= 2
$ alice send bob --json
< what another program prints
! {"v": 1, "type": "error", "code": 2, "error": "usage", "text": "--json is in the place of the text. {ANY}"kept": false}
= 2
$ alice send bob --
< what another program prints
! messageu: There is no text after `--`. {ANY}
= 2
$ alice -q send bob -1
$ alice -q send bob "- milk"
$ alice -q send bob -- -h
$ alice -q send bob -- --help
$ alice -q send bob -- -x
$ alice -q send bob -- --json
$ alice -q send bob -- -
$ alice -q send bob -- --
$ alice -q send bob -
< typed
$ bob --quiet recv
> {TIME} alice: one word
> {TIME} alice: in between
> {TIME} alice: behind the name
> {TIME} alice: -1
> {TIME} alice: - milk
> {TIME} alice: -h
> {TIME} alice: --help
> {TIME} alice: -x
> {TIME} alice: --json
> {TIME} alice: -
> {TIME} alice: --
> {TIME} alice: typed
$ alice --version --json
> {"v": 1, "type": "version", "program": "messageu", "version": "{ANY}"}
$ alice send --help --json
> {"v": 1, "type": "help", "command": "send", "text": "usage: messageu send {ANY}"}
