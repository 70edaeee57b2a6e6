$ alice completion bash
> _messageu() {
> ...
> complete -o default -F _messageu messageu
$ alice completion --json fish
> {"v": 1, "type": "completion", "shell": "fish", "script": "{ANY}"}
$ alice completion tcsh
! ...
= 2
