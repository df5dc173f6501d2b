"""Seeds that failed once, and what was wrong then. Timing has changed since: most meet other things today.

``make soak`` begins with all of them; ``make test`` runs those that ``cover`` chose, as it chose others.
"""

from __future__ import annotations

from tests.simulation import away
from tests.simulation.run import Result, run

WHOLE: dict[int, str] = {
    102: "a reset of a clock listed a conflict that a pruned version had settled",
    347: "a reset put off what the node itself had stamped ahead before its disk went back",
    507: "a rule of a collection that went with the end of a log stayed in memory",
    1039: "what a reset wrote again was stamped before a pruned version that it replaces",
    1112: "the watch looked at the end a moment after all was settled: a node had told something of itself",
    1264: "a sender that began again was refused, for others had brought the entry at which it began",
    1622: "the watch asked for a body that a disk had lost and an expelled node alone has",
    1720: "the watch did not see that what an entry names was recorded alone, where both came at one look",
    1902: "a row for which an entry was still to be supplied was compared, and no rule decided",
    2140: "who lacked a key of one that is out, which nobody had, vouched for nothing for good",
    2665: "the watch asked for a conflict with what was pruned when that over it was taken out",
    5070: "a gateway did not keep the proof of who had written what a cloud gave it in the seventeenth round",
    6037: "what a reset wrote again named what it had put off, and two nodes listed other conflicts for it",
    5125: "a disk went back with the only copy of a rule, and all waited for it who had its header",
    5175: "a merge on an entry in quarantine left no conflict row of what it overwrote",
    11019: "the oracle did not know that who settles a conflict can delete, and took the next insert amiss",
    22083: "what an expelled node had put over an entry in quarantine went, and the entry was in it no more",
    22097: "a cloud held an expulsion that was stamped ahead, and served the one that was out",
    26052: "a maker of a key began a new log, and those who had made another never heard of its key",
    40232: "the watch took a node amiss whose initial peers were refused while its disk was full",
    40311: "a node that was out was asked to enable the cloud, and its word counted nowhere",
    50087: "election's word to sync was lost: its heartbeats carried a dead claim for ever, and two led",
    60045: "an edit of an element went that a put that expires did not have, as it was written whole",
    60072: "a node that had taken what most clocks had shown was no voice for it: the rest was held by all",
    70137: "so was one that had reset its clock before it heard of the others",
    70348: "the watch took amiss that a member gave back what stood below an entry of one that is out",
    70845: "so it was where no verification ran, which brings it",
    70369: "a node was invited anew while it ran, and nobody attested its log by the key that it was given",
    70544: "the watch forgot that a session refuses a log that nobody attested for a while after it is known",
    70677: "a link stayed when the key changed, and its other end never heard of the new one",
    80413: "the oracle asked for a conflict before the document above it, which had expired, was hidden",
    1795791718: "true entries in the place of a forged one drove out a cause that waited behind it",
}
"""Of the simulation,"""
AWAY: dict[int, str] = {
    7: "a whole write of the tail, behind a merge of it, did not replace what it names",
    9: "what named a branch that came later, after the heal of a fork, ended none of its conflicts",
    19: "a disk had gone back beyond what the others had pruned: nobody could prove the fork, or end it",
    25: "a whole write of the tail, before a merge of it, did not replace what it replaces elsewhere",
    98: "a log had ended unheard, and a cloud gave it back; a state taken in vain kept better ones out",
    118: "a batch was not sent, for a floor had risen, but the next one was: an effect came before its cause",
    159: "what a cloud's snapshot lacked was asked of one node of the LAN, whose link broke, and of no other",
    176: "an old put, which others served from the log, met no tombstone: its writer had counted as absent",
    237: "verification brought a document back that the snapshot had deleted, from the log of its writer",
    239: "a version of another key, with the number of one of a branch that went, ended its conflict",
    278: "verification took a row of another branch, of which the vector covered the number",
    310: "a snapshot of which no chunk could be read was offered again and again",
    319: "a state that did not have what a peer lacked was offered to it for an hour, and no newer one made",
    336: "so did two, on the way by a cloud",
    379: "a node took a cloud's snapshot, and had no conflict of the configuration that this covers",
    420: "what an unfit version named was forgotten: another had ended it, and it was pruned",
    512: "a cloud that heard nobody forgot its own delete",
    709: "disk and wall clock had gone back: the branch was dated by stamps, and acknowledged writes went",
    750: "held entries were released log by log: an effect came before its cause, and ended no rival of that",
    758: "a cloud forgot a delete that an absent member lacked, and showed its old put",
    878: "so it was, and the snapshot was refused for ever: no entry was stamped later than the other branch",
    898: "a successor of what its writer had written again met that, and was no conflict there",
    2017: "a chunk for which the disk had no room counted as taken: the snapshot was larger than its offer",
}
"""and of nodes that come back to snapshots."""
HISTORIES = (*((run, seed) for seed in WHOLE), *((away.run, seed) for seed in AWAY))


def again(place: int) -> Result:
    """The history in this place of ``HISTORIES``."""
    live, seed = HISTORIES[place]
    return live(seed)
