"""Mutants of filters and mixtures: each rule of their order taken out, and the tests that must notice.

Here: exact text of the code and what it becomes.
Elsewhere: all other mutants (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

COURSE, WORD, VIEW, WHERE = (f"shardkit/read/{name}.py" for name in ("course", "word", "view", "where"))
MIXED, READER, STATE = (f"shardkit/read/{name}.py" for name in ("mixed", "reader", "state"))
COUNTED, MIXTURES, VIEWS = (f"tests/read/test_{name}.py" for name in ("course", "mixture", "view"))
RESUMED = f"{MIXTURES}::test_resume_anywhere_under_other_topologies_gives_exactly_the_rest"
REFUSED = f"{MIXTURES}::test_arguments_that_contradict_the_state_are_refused"


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (test,))


MIXING = (
    _one(
        "bounds of a word's slots",
        WORD,
        "        fits &= right < -(-(rank[left] + 1) * length // counts[x])\n",
        "",
        f"{COUNTED}::test_no_prefix_of_a_word_is_a_whole_sample_off",
    ),
    _one(
        "which source must come first",
        WORD,
        "            heapq.heappush(ready, (-(-(number + 1) * length // counts[source]), source, number))\n",
        "            heapq.heappush(ready, (0, source, number))\n",
        f"{COUNTED}::test_no_prefix_of_a_word_is_a_whole_sample_off",
    ),
    _one(
        "what aligned lanes took before a segment",
        COURSE,
        "np.roll(gained, last.start % lanes, axis=0)",
        "gained",
        f"{COUNTED}::test_repeating_course_is_what_counting_gives",
    ),
    _one(
        "a seed of its own for every dataset of a mixture",
        MIXED,
        "derive_keys(LABEL, self._state.seed, member, 1)",
        "derive_keys(LABEL, self._state.seed, 0, 1)",
        f"{MIXTURES}::test_datasets_of_one_shape_are_shuffled_differently",
    ),
    _one(
        "the pass in a source's order",
        MIXED,
        "        return EpochOrder(live, seed=seed, epoch=number,",
        "        return EpochOrder(live, seed=seed, epoch=0,",
        f"{MIXTURES}::test_every_pass_has_every_sample_once_and_its_own_order",
    ),
    _one(
        "weights that contradict the state",
        READER,
        "        if mixing.asked:\n",
        "        if False:\n",
        REFUSED,
    ),
    _one(
        "a filter that contradicts the state",
        READER,
        "agree = mine.digest == saved.digest or (other_version and mine.where == saved.where)",
        "agree = True",
        REFUSED,
    ),
    _one(
        "the filter of a saved state",
        READER,
        "        reader = self if self.spec.where is not None else self._through(where)\n",
        "        reader = self\n",
        RESUMED,
    ),
    _one(
        "omitted samples in views",
        VIEW,
        "        mask[np.array(omitted)] = False\n",
        "",
        f"{VIEWS}::test_filter_takes_what_the_records_say",
    ),
    _one(
        "stored samples in a view's digest",
        VIEW,
        'digest.update(samples.to_bytes(8, "little") + bits',
        "digest.update(bits",
        f"{VIEWS}::test_digest_is_the_one_that_FORMAT_md_defines",
    ),
    _one(
        "manifests that do not describe their shards",
        WHERE,
        "    if sum(entry.modalities.values()) != entry.samples:",
        "    if False:",
        f"{VIEWS}::test_a_manifest_that_does_not_describe_its_shards_decides_nothing",
    ),
)
