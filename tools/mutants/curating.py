"""Mutants of curating: splits, what is left out and why, licences, cards; and the tests that must notice.

Here: exact text of the code and what it becomes.
Elsewhere: what sources take (taking.py), all other mutants (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

SPLIT, ASSIGN, GROUPS, DERIVE, OMIT, DEDUP, LICENCES = (
    f"shardkit/curate/{name}.py" for name in ("split", "assign", "groups", "derive", "omit", "dedup", "licences")
)
SPLITS, DUPLICATES = "tests/curate/test_split.py", "tests/curate/test_dedup.py"
ADDED = f"{DUPLICATES}::test_what_the_parent_left_out_stays_out_and_reasons_add_up"


def _one(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


CURATING = (
    _one("split of an earlier version", SPLIT, "    if not earlier:\n", "    if True:\n",
         f"{SPLITS}::test_appended_data_moves_nothing"),
    _one("split that a group has", ASSIGN, "new = members[kept[members] < 0]", "new = members",
         "tests/curate/test_assign.py::test_groups_keep_what_they_have_and_the_others_make_up_for_it"),
    _one("what rounding leaves", ASSIGN, "        carry = wanted - given\n", "",
         "tests/curate/test_assign.py::test_shares_of_ten_thousand_samples_are_met_within_a_hundredth"),
    _one("near-duplicates on one side", GROUPS,
         'yield [*labels, f"near={cluster}"] if cluster is not None else labels', "yield labels",
         f"{SPLITS}::test_near_duplicates_stay_on_one_side_with_their_speakers"),
    _one("source of a speaker", GROUPS, 'label = f"{row.source}/{field}={value}"', 'label = f"{field}={value}"',
         f"{SPLITS}::test_equal_speakers_of_two_sources_are_two"),
    _one("version that came meanwhile", DERIVE, "        if current != parent:\n", "        if False:\n",
         f"{SPLITS}::test_a_version_that_came_meanwhile_is_not_passed_over"),
    _one("what a killed split left", DERIVE, "        clear_up(root)\n", "",
         "tests/faults/test_acts.py::test_killed_or_failing_it_ends_as_if_nothing_had_happened"),
    _one("equal keys are duplicates", DEDUP,
         "np.where(same, WORDS.index(DUPLICATE), WORDS.index(NEAR_DUPLICATE))", "WORDS.index(NEAR_DUPLICATE)",
         f"{DUPLICATES}::test_equal_keys_are_called_duplicates"),
    _one("what the parent left out", OMIT, "[*before[shard], *_ordinals(omissions, shard)]",
         "[*_ordinals(omissions, shard)]", ADDED),
    _one("benchmarks of the parent's reasons", OMIT,
         '        moved["of_shard"][moved["reason"] == WORDS.index(CONTAMINATED)] += np.uint32(len(old.benchmarks))\n',
         "", "tests/curate/test_ngrams.py::test_a_second_search_leaves_the_names_of_the_first_as_they_were"),
    _one("reasons that are none", "shardkit/store/reasons.py",
         'return ascending and known and bool((rows["similarity"] <= 1000).all())', "return True",
         "tests/store/test_reasons.py::test_anything_else_is_damage"),
    _one("licences that a policy refuses", LICENCES,
         "allowed=allowed is None or found in allowed or licence in allowed", "allowed=True",
         "tests/curate/test_licences.py::test_a_policy_names_what_it_does_not_allow"),
    _one("strictest of several licences", "shardkit/spec/licences.py", "    return max((_class_of(part)",
         "    return min((_class_of(part)", "tests/curate/test_licences.py::test_a_licence_has_its_class"),
    _one("card that was lost", "shardkit/curate/build.py", "    if not has_card(Path(out), result.version):\n",
         "    if not result.unchanged:\n",
         "tests/curate/test_card.py::test_a_lost_card_comes_back_with_the_next_build"),
)  # fmt: skip
