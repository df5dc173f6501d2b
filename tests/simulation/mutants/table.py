"""The mistakes that the simulation must notice, with seeds that do; those that hardly any seed meets have a
history of their own in ``test_rare_mistakes``."""

from __future__ import annotations

from tests.simulation.events.conditions import CONDITIONAL, CONDITIONAL_SEEDS
from tests.simulation.events.damage import DAMAGED_SEEDS, EVERY, interval_of
from tests.simulation.events.forgeries import FORGER, FORGER_SEEDS
from tests.simulation.events.lies import LIAR_SEEDS
from tests.simulation.mutants import keeping, replication
from tests.simulation.mutants import time as times
from tests.simulation.mutants.noticing import Mutant, always
from tests.simulation.run import (
    COUNTING,
    COUNTING_SEEDS,
    EXPIRING,
    EXPIRING_SEEDS,
    MERGING_SEEDS,
    PICKY_SEEDS,
)
from tests.simulation.world.options import DAY_HOURS, Options


def merges(seed: int, options: Options) -> bool:
    """Documents merge."""
    return always(seed, options) and seed % MERGING_SEEDS == 1


def counts(seed: int, options: Options) -> bool:
    """Clients increment counters."""
    return always(seed, options) and seed % COUNTING_SEEDS == COUNTING


def is_conditional(seed: int, options: Options) -> bool:
    """Clients insert, update, and write for one version alone."""
    return always(seed, options) and seed % CONDITIONAL_SEEDS == CONDITIONAL and not expires(seed, options)


def expires(seed: int, options: Options) -> bool:
    """Documents expire."""
    wrong_clocks = options.wild_clocks or options.bad_times
    return always(seed, options) and seed % EXPIRING_SEEDS == EXPIRING and not wrong_clocks


def has_cloud(seed: int, options: Options) -> bool:
    """There is a gateway with a link to lose."""
    return always(seed, options) and options.cloud


def has_quarantine(seed: int, options: Options) -> bool:
    """A node cannot apply all that the others write."""
    return always(seed, options) and seed % PICKY_SEEDS == 0


def has_liar(seed: int, options: Options) -> bool:
    """A node says Hello under the name of another."""
    return always(seed, options) and seed % LIAR_SEEDS == 0


def has_forger(seed: int, options: Options) -> bool:
    """A node forges the logs of others that it relays."""
    return always(seed, options) and seed % FORGER_SEEDS == FORGER


def verifies(seed: int, options: Options) -> bool:
    """Nodes compare their documents."""
    return always(seed, options) and interval_of(seed) > 0


def has_damage(seed: int, options: Options) -> bool:
    """Rows are damaged."""
    return always(seed, options) and seed % EVERY == DAMAGED_SEEDS


def forgets(seed: int, options: Options) -> bool:
    """Logs are pruned."""
    return always(seed, options) and options.retention_hours < DAY_HOURS


def has_bad_clocks(seed: int, options: Options) -> bool:
    """Clocks run so far ahead that entries are held."""
    return always(seed, options) and (options.wild_clocks or options.bad_times)


def has_bad_times(seed: int, options: Options) -> bool:
    """Clocks are set by a month, and boards boot in 1970."""
    return always(seed, options) and options.bad_times


MUTANTS = {
    "acknowledge before commit": Mutant(replication.acknowledge_before_commit, (3, 4, 6, 2)),
    "condition ignored": Mutant(replication.condition_ignored, (34, 47, 60), is_conditional),
    "update of an empty document": Mutant(replication.update_of_nothing, (34, 47, 60), is_conditional),
    "no receive rule": Mutant(replication.no_receive_rule, (4, 3, 2, 6)),
    "tombstone dropped": Mutant(replication.tombstone_dropped, (2, 1, 4, 3)),
    "gap accepted": Mutant(replication.gap_accepted, (6, 1, 4, 3)),
    "tie without origin": Mutant(replication.tie_without_origin, (62, 18, 42), verifies),
    "link kept after losing the election": Mutant(replication.link_kept, (1, 7, 9, 10), has_cloud),
    "cursor before ack": Mutant(replication.cursor_before_ack, (1, 8, 6, 12)),
    "retry without request id": Mutant(replication.retry_without_request_id, (10, 7)),
    "header without body digest": Mutant(replication.header_without_body_digest, (4, 1, 3, 6)),
    "hold merged into the clock": Mutant(replication.hold_merged, (22, 28), has_bad_clocks),
    "relay before its cause": Mutant(replication.relay_before_cause, (9, 8)),
    "quarantined entry not relayed": Mutant(
        replication.quarantine_not_relayed, (30, 45, 60, 66), has_quarantine
    ),
    "held entries released out of order": Mutant(replication.held_out_of_order, (2, 22, 10), has_bad_clocks),
    "delete loses to a concurrent put": Mutant(replication.delete_loses, (1, 2, 6, 3)),
    "conflict never cleared": Mutant(replication.conflict_never_cleared, (4, 2, 1, 3)),
    "what was read ignored": Mutant(replication.base_ignored, (7, 9, 1, 3), merges),
    "epoch not raised": Mutant(replication.epoch_not_raised, (4, 2, 1, 3)),
    "same incarnation after a roll-back": Mutant(replication.same_incarnation, (1, 7, 17)),
    "certificate not compared with Hello": Mutant(
        replication.certificate_not_compared, (20, 60, 45), has_liar
    ),
    "signature not checked": Mutant(replication.signature_not_checked, (18, 8, 13, 3), has_forger),
    "hung actor left alone": Mutant(replication.hung_left_alone, (7, 11, 22)),
    "fingerprints without body": Mutant(keeping.fingerprints_without_body, (2, 17, 7, 12), has_damage),
    "older side taken": Mutant(keeping.older_side_taken, (7, 3, 17, 22), verifies),
    "delay taken for damage": Mutant(keeping.delay_taken_for_damage, (37, 42, 3), verifies),
    "removed field ignored": Mutant(keeping.removed_field_ignored, (9, 3, 7, 1), merges),
    "delete forgets fields": Mutant(keeping.delete_forgets_fields, (71, 77), merges),
    "sum forgotten": Mutant(keeping.sum_forgotten, (33, 43, 3, 13), counts),
    "expired document forgotten": Mutant(keeping.expired_forgotten, (21, 5, 69), expires),
    "expired document under its old number": Mutant(
        keeping.expired_under_its_old_number, (21, 5, 69), expires
    ),
    "expired document without its fields": Mutant(keeping.expired_without_fields, (21, 69, 149, 5), expires),
    "log pruned by age alone": Mutant(keeping.pruned_by_age_alone, (23, 6, 27, 15), forgets),
    "one entry more pruned than all have": Mutant(keeping.stable_by_one_too_many, (6, 42, 19), forgets),
    "floor raised past a gap": Mutant(keeping.floor_past_a_gap, (27, 38, 15, 23), forgets),
    "mended row under its old number": Mutant(keeping.mended_under_its_old_number, (2, 7, 12), has_damage),
    "late entry under its old number": Mutant(keeping.supplied_under_its_old_number, (18, 6, 3)),
    "age by the wall clock": Mutant(times.age_by_the_wall_clock, (32, 27, 37), has_bad_times),
    "held by the own clock alone": Mutant(times.own_clock_alone, (2, 12, 22, 37), has_bad_times),
    "end of a log forgotten": Mutant(times.end_forgotten, (62, 52, 32, 7), has_bad_times),
}
