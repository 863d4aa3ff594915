"""Mutants of what sources take: cursors, pins, samplings, tokens, rules; and the tests that must notice.

Here: exact text of the code and what it becomes.
Elsewhere: what is done with the samples (curating.py), all other mutants (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

CSV, JSON, JSONL, RECORDS, TARS, GATHER, PLAIN, WEB = (
    f"shardkit/sources/{name}.py"
    for name in ("csv", "json_list", "jsonl", "record_files", "tar_files", "gather", "plain", "web_place")
)
CHOOSE, CHOSEN, SAMPLED = (f"shardkit/sources/sampling/{name}.py" for name in ("choose", "chosen", "sampled"))
RULES = "shardkit/records/rules/apply.py"
SOURCES = "tests/sources"
RESUMED = f"{SOURCES}/test_resume.py::test_rows_behind_a_cursor_are_the_rest"
GROUPED = f"{SOURCES}/test_gather.py::test_conversations_behind_any_cursor_are_the_rest"
DRAWN = f"{SOURCES}/test_sampling.py::test_other_seeds_and_revisions_choose_other_rows"
CHECKED = f"{SOURCES}/test_http.py::test_digest_is_checked_when_planning_and_chunks_when_reading"
RULED = "tests/records/test_rules.py"
BROKEN = f"{RULED}::test_a_broken_rule_has_its_reason_and_never_the_secret"


def _one(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


CURSORS = (
    _one("number of a record behind a cursor", RECORDS, '"record": number + 1}', '"record": number}', RESUMED),
    _one("end of a csv record", CSV, "yield Found(raw.end, ", "yield Found(raw.end + 1, ", RESUMED),
    _one("end of an item of a list", JSON, "yield Found(document.at, ", "yield Found(document.at + 1, ", RESUMED),
    _one("number of a line behind a cursor", JSONL, '"line": line.number + 1}', '"line": line.number}', RESUMED),
    _one("end of a sample of others", TARS, "Found(mark.offset + sample.end, ", "Found(sample.end, ",
         f"{SOURCES}/test_shards.py::test_tars_of_others_are_covered_and_resumed_exactly"),
    _one("what is behind a list", JSON, "        document.finish(inside)\n", "",
         f"{SOURCES}/test_json_list.py::test_what_is_no_json_around_the_items_is_noticed"),
    _one("row of a row group of the Hub", "shardkit/sources/hub/parquet.py",
         'yield Step(row=found, cursor={"file": index, "group": group, "row": row})',
         'yield Step(row=found, cursor={"file": index, "group": group, "row": row - 1})',
         f"{SOURCES}/hub/test_readers.py::test_rows_behind_a_cursor_are_the_rest"),
    _one("rows of a group that are done", GATHER, "DONE: at}", "DONE: at - 1}", GROUPED),
    _one("cursor within a group", GATHER, "cursor=self.after if at == len(made) else within",
         "cursor=self.after", GROUPED),
    _one("the second group is begun at its beginning", GATHER, "                done = 0\n", "", GROUPED),
)  # fmt: skip

SAMPLES = (
    _one("key of the draw", CHOOSE, 'number.to_bytes(8, "little"), self._key)', 'number.to_bytes(8, "little"))', DRAWN),
    _one("seed of the draw", CHOOSE, "sampling {seed} {wanted.revision}", "sampling {wanted.revision}", DRAWN),
    _one("revision of the draw", CHOOSE, "sampling {seed} {wanted.revision}", "sampling {seed}", DRAWN),
    _one("digest of the list of chosen rows", CHOSEN, "if found.digest() == tail else None", "if tail else None",
         f"{SOURCES}/test_sampling.py::test_a_list_that_is_damaged_is_made_again"),
    _one("cursor in a sample", SAMPLED, 'cursor={"chosen": at})', 'cursor={"chosen": at - 1})',
         f"{SOURCES}/test_sampling.py::test_rows_behind_a_cursor_are_the_rest_of_the_sample"),
    _one("spares of a longer list", CHOOSE, "        size *= 2\n        spares += size\n", "        spares += size\n",
         f"{SOURCES}/test_sampling.py::test_spare_rows_of_a_longer_list_begin_with_those_of_the_shorter"),
)  # fmt: skip

PINS = (
    _one("links that lead out of a plain folder", PLAIN, "if found.is_relative_to(root) and found.is_file():",
         "if found.is_file():",
         "tests/curate/test_validate.py::test_links_that_lead_out_of_the_folder_are_no_media"),
    _one("digest of a plain medium", PLAIN, "        if blake3(data).digest(length=16) != wanted:\n",
         "        if False:\n", "tests/curate/test_validate.py::test_media_that_changed_since_planned_are_noticed"),
    _one("tag of a file at a URL", WEB, "size != self._entry.size or self._entry.digest[: len(known)] != known",
         "size != self._entry.size", f"{SOURCES}/test_http.py::test_change_between_and_within_is_noticed"),
    _one("SHA-256 of a file at a URL", WEB, "        if whole.hexdigest() != file.sha256:\n", "        if False:\n",
         CHECKED),
    _one("chunks of a file at a URL", WEB, "            if blake3(data[at : at + CHUNK_BYTES]).digest(length=16) != ",
         "            if False and ", CHECKED),
    _one("login for Kaggle's file server", "shardkit/store/kaggle.py", ", with_secrets=False)", ")",
         f"{SOURCES}/test_kaggle.py::test_secrets_go_to_the_api_alone_and_are_stored_nowhere"),
    _one("token for the Hub's file server", "shardkit/store/hub.py", ", with_secrets=False)", ")",
         f"{SOURCES}/hub/test_hub.py::test_token_opens_what_is_gated_and_goes_to_the_hub_alone"),
)  # fmt: skip

RULINGS = (
    _one("licence of a sample", RULES, "    if rules.licences and not is_allowed(",
         "    if False and not is_allowed(", BROKEN),
    _one("secrets that are refused", RULES, "            if kinds:  #", "            if False:  #", BROKEN),
    _one("secret in a dead letter", RULES, 'return Refused(reason, ", ".join(sorted(kinds)))',
         'return Refused(reason, texts[0])', BROKEN),
    _one("secrets in answers", RULES,
         "    preference = Preference(chosen=answers[0], rejected=answers[1]) if answers else None\n",
         "    preference = draft.preference\n", f"{RULED}::test_answers_are_redacted_too"),
    _one("what is redacted", RULES, '    if rules.secrets == "redact":\n', "    if False:\n",
         f"{RULED}::test_answers_are_redacted_too"),
)  # fmt: skip

TAKING = (*CURSORS, *SAMPLES, *PINS, *RULINGS)
