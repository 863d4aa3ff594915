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
CLEANED = "tests/curate/test_build_cleaned.py"
ADDED = f"{DUPLICATES}::test_what_the_parent_left_out_stays_out_and_reasons_add_up"


def _one(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


CURATING = (
    _one("split of an earlier version", SPLIT, "    if not earlier:\n", "    if True:\n",
         f"{SPLITS}::test_appended_data_moves_nothing"),
    _one("split that a group has", ASSIGN, "new = members[chosen[members] < 0]", "new = members",
         "tests/curate/test_assign.py::test_groups_keep_what_they_have_and_the_others_make_up_for_it"),
    _one("what rounding leaves", ASSIGN, "        carry = needs - _sums(chosen[new], sizes[new], len(shares))\n", "",
         "tests/curate/test_assign.py::test_shares_of_ten_thousand_samples_are_met_within_a_hundredth"),
    _one("near-duplicates on one side", GROUPS,
         'labels += [] if cluster is None else [f"near={cluster}"]', "labels += []",
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
         "allowed=allowed is None or is_allowed(licence, allowed)", "allowed=True",
         "tests/curate/test_licences.py::test_a_policy_names_what_it_does_not_allow"),
    _one("strictest of several licences", "shardkit/spec/licences.py", "min((max(map(_class_of",
         "min((min(map(_class_of", "tests/curate/test_licences.py::test_a_licence_has_its_class"),
    _one("held-out sources stay apart", SPLIT, "    found[groups.group[shards[groups.shards]]] = True\n", "",
         f"{CLEANED}::test_benchmarks_among_the_sources_are_never_in_train"),
    _one("of equal keys the held-out one stays", "shardkit/build/finish.py", "entries[at].source not in held_out)",
         "at)", f"{CLEANED}::test_of_a_copy_of_a_benchmarks_row_the_benchmarks_own_stays"),
    _one("of near ones the held-out one stays", "shardkit/curate/workers.py", "entries[at].source not in held_out)",
         "at)", f"{CLEANED}::test_of_a_copy_of_a_benchmarks_row_the_benchmarks_own_stays"),
    _one("a benchmark holds its own rows", "shardkit/curate/fingerprints.py", "        grams = None\n",
         "        pass\n", f"{CLEANED}::test_benchmarks_among_the_sources_are_never_in_train"),
    _one("benchmarks as they were pinned", "shardkit/curate/dedup_built.py", "if anew and pins", "if pins",
         f"{CLEANED}::test_killed_anywhere_it_goes_on_to_the_same_version"),
    _one("short texts of many rows", "shardkit/curate/ngrams.py", " if spoken[text] <= _most_rows(total)}", "}",
         "tests/curate/test_ngrams.py::test_a_short_text_of_many_rows_is_frame_too"),
    _one("columns of pictures", "shardkit/records/normalize/texts.py", "{**spec.columns, **left_out}", "spec.columns",
         "tests/curate/test_against.py::test_pictures_are_neither_fetched_nor_decoded"),
    _one("card that was lost", "shardkit/curate/build.py", "    if not has_card(root, result.version):\n",
         "    if not result.unchanged:\n",
         "tests/curate/test_card.py::test_a_lost_card_comes_back_with_the_next_build"),
)  # fmt: skip
