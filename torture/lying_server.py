"""Drills: a server that lies to clients of ours, which talk under suite 1, and the same lies where
nothing protects from them.

Owns: the kinds of attacks, and what counts as accepted.
Promises: an attack is *accepted* if a user is shown as authentic what its sender did not send, or
is shown it twice or in another order without a word; if a claim with wrong keys goes through; if
what a client sends then can be opened by the attacker, or is under the published suite. One
accepted attack fails the drill, and so does a message that the server delivered at last and that
did not arrive. The control fails unless it sees attacks that are accepted; its row has attacks as
acknowledged messages, and accepted ones as unexpected.
Exposure: 127.0.0.1 only.

    kind                    what the server does
    ─────────────────────   ──────────────────────────────────────────────────────────────────────
    swapped-identity        answers a claim with an identity of its own
    swapped-keys            the right identity, and keys of its own, or a bit of the right ones
    anothers-bundle         the true bundle or one-time key of somebody else
    old-bundle              a true bundle from before, whose private outer key was stolen
    withheld-keys           says that there are no keys, hides suite 1, cuts or refuses
    withheld-from-a-link    the same, or keys of its own, at a first contact by a link
    exhausted-keys          gives no one-time key, and delivers first messages again
    replayed                delivers messages again, at once or later, by 643 and by 604
    reordered               delivers messages in another order
    cut                     delivers the beginning of a message, and the message later
    altered                 changes a bit of a message, anywhere
    altered-inside          the same within the outer layer, whose private key it has
    anothers-message        delivers a message as somebody else's, or one for somebody else
    downgraded              makes up messages of the published suite in a peer's name
"""

from collections.abc import Mapping
from typing import Final

from torture import lies_about_keys, lies_in_mail
from torture.checker import Verdict
from torture.drill import Place, Row, examples, say
from torture.drill_messages import DrillMessage
from torture.lying_stage import Count, Kind, Stage, perform
from torture.programs import Server

NAME: Final = "lying-server"
CONTROL: Final = "lying-server-control"
_FULL: Final = 1_000
_QUICK: Final = 4
_FULL_CONTROL: Final = 100
_FULL_FIRST: Final = 10
KINDS: Final[Mapping[str, Kind]] = {
    "swapped-identity": lies_about_keys.swapped_identity,
    "swapped-keys": lies_about_keys.swapped_keys,
    "anothers-bundle": lies_about_keys.anothers_bundle,
    "old-bundle": lies_about_keys.old_bundle,
    "withheld-keys": lies_about_keys.withheld_keys,
    "withheld-from-a-link": lies_about_keys.withheld_from_a_link,
    "exhausted-keys": lies_about_keys.exhausted_keys,
    "replayed": lies_in_mail.replayed,
    "reordered": lies_in_mail.reordered,
    "cut": lies_in_mail.cut,
    "altered": lies_in_mail.altered,
    "altered-inside": lies_in_mail.altered_inside,
    "anothers-message": lies_in_mail.anothers_message,
    "downgraded": lies_in_mail.downgraded,
}


def run(place: Place) -> Row:
    """All kinds, one after the other, against the same homes."""
    wanted = place.sized(_FULL, _QUICK)
    folder = place.folder_of(NAME)
    found: dict[str, Count] = {}
    with Server(folder / "server").start() as server, Stage(folder, server.port, place.chance(NAME)) as stage:
        for name, kind in KINDS.items():
            found[name] = perform(stage, NAME, name, kind, wanted)
    sent, missing = len(stage.judge.sent), stage.judge.missing()
    wrong = [finding.message for finding in stage.wrong if finding.message is not None]
    verdict = Verdict(sent, sent, sent - len(missing), lost=missing, unexpected=wrong)
    if told := examples(verdict):
        say(f"  {NAME}: {told}")
    accepted = sum(each.accepted for each in found.values())
    named = ", ".join(f"{name} {each.named}" for name, each in found.items())
    note = f"{wanted:,} attacks of each of {len(found)} kinds, {accepted} accepted; named: {named}"
    return Row(NAME, 0, verdict, verdict.spotless and not accepted, note)


UNPROTECTED: Final[Mapping[str, Kind]] = {
    "replayed": lies_in_mail.replayed,
    "reordered": lies_in_mail.reordered,
    "altered": lies_in_mail.altered_unauthenticated,
    "downgraded": lies_in_mail.downgraded,
}
"""Against the published suite."""
FIRST: Final[Mapping[str, Kind]] = {
    "swapped-at-first": lies_about_keys.swapped_at_first,
    "withheld-at-first": lies_about_keys.withheld_at_first,
    "old-at-first": lies_about_keys.old_at_first,
}
"""Against suite 1, where nobody has compared anything."""


def run_control(place: Place) -> Row:
    """Attacks that must be accepted: passed if the drill sees some of each kind."""
    folder, chance = place.folder_of(CONTROL), place.chance(CONTROL)
    found: dict[str, Count] = {}
    with (
        Server(folder / "server").start() as server,
        Stage(folder / "published", server.port, chance, suite_1=False) as stage,
    ):
        for name, kind in UNPROTECTED.items():
            found[name] = perform(stage, CONTROL, name, kind, place.sized(_FULL_CONTROL, 2 * _QUICK))
    with (
        Server(folder / "server of first contacts").start() as server,
        Stage(folder / "first contacts", server.port, chance) as stage,
    ):
        for name, kind in FIRST.items():
            found[name] = perform(stage, CONTROL, name, kind, place.sized(_FULL_FIRST, 1))
    unseen = [name for name, each in found.items() if not each.accepted]
    counts = ", ".join(f"{name} {each.accepted} of {each.attacks}" for name, each in found.items())
    note = f"accepted: {counts}; "
    note += f"THE DRILL SAW NONE OF {', '.join(unseen)}" if unseen else "they must be, and the drill says so"
    return Row(CONTROL, 0, verdict_of(found), not unseen, note)


def verdict_of(found: Mapping[str, Count]) -> Verdict:
    """Attacks in the place of messages, for the server sent each of them: what was accepted of a
    kind came from nobody else.
    """
    attacks = sum(each.attacks for each in found.values())
    accepted = [
        DrillMessage("server", name, number) for name, each in found.items() for number in range(1, each.accepted + 1)
    ]
    return Verdict(attacks, attacks, len(accepted), unexpected=accepted)
