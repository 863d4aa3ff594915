"""Mutants of packing: budgets, lanes that move, marks that keep packed samples apart.

Here: exact text of the code and what it becomes.
Elsewhere: the others (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

DEFINED = "tests/read/test_pack.py::test_the_definition_written_once_more_gives_the_same_packs"
PACKED = "tests/read/test_packed.py"
BOUNDARY = "tests/trainer/test_packs.py::test_no_token_sees_over_a_boundary"
SAID = "tests/trainer/test_packs.py::test_packs_of_rows_that_the_assistant_begins_keep_their_boundaries"


def _one(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


PACKING = (
    _one("budget of sound in a pack", "shardkit/read/pack.py", " and sound <= audio_ms", "", DEFINED),
    _one("of equal candidates the oldest", "shardkit/read/pack.py", "if most < has <=", "if most <= has <=", DEFINED),
    _one(
        "of several states of a lane the furthest",
        "shardkit/read/pack_state.py",
        "lane.given > found[lane.lane].given",
        "lane.given < found[lane.lane].given",
        f"{PACKED}::test_torch_workers_pack_lanes_of_their_own_and_a_resume_gathers_them",
    ),
    _one(
        "the lane with the fewest packs is next",
        "shardkit/read/packed.py",
        "return lane.state.given, lane.state.lane",
        "return 0, lane.state.lane",
        f"{PACKED}::test_fewest_packs_given_come_first_after_a_change",
    ),
    _one(
        "lanes are dealt to ranks by the packs that they gave",
        "shardkit/read/pack_state.py",
        "key=lambda lane: (lane.given, lane.lane)",
        "key=lambda lane: lane.lane",
        f"{PACKED}::test_fewest_packs_given_come_first_after_a_change",
    ),
    _one(
        "age of carried samples",
        "shardkit/read/packed.py",
        "carried = tuple(lane.drawn - one.at for one in lane.pool)",
        "carried = tuple(sorted(lane.drawn - one.at for one in lane.pool))",
        f"{PACKED}::test_resume_after_every_batch_gives_the_rest",
    ),
    _one(
        "carried samples are read once",
        "shardkit/read/feed.py",
        "        self._carried = []\n",
        "",
        f"{PACKED}::test_a_resume_goes_on_for_epochs",
    ),
    _one(
        "attention ends at a sample's boundary",
        "trainer/model/attention.py",
        '{"attention_mask": None, "position_ids": positions_BT}',
        '{"attention_mask": torch.ones_like(positions_BT), "position_ids": positions_BT}',
        BOUNDARY,
    ),
    _one(
        "no loss over a boundary",
        "trainer/data/collate.py",
        "            labels[at, start] = IGNORED\n",
        "",
        SAID,
    ),
)
