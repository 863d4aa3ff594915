"""Mutants of reading tars that others made: each check taken out, and the tests that must notice.

Here: exact text of the code and what it becomes.
Elsewhere: all other mutants (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

READER, STREAMING, TAR_INDEX = (f"shardkit/store/{name}.py" for name in ("foreign", "streaming", "tar_index"))
ROUTING, VERIFYING, REPAIR = (f"shardkit/store/{name}.py" for name in ("routing", "verify_foreign", "repair"))
INDEXING, TAR_SET = "shardkit/read/foreign.py", "shardkit/read/tar_set.py"
READ, ONCE = "tests/read/test_foreign.py", "tests/read/test_foreign_index.py"
CORPUS = "tests/store/test_hostile.py"
BOUNDED = f"{CORPUS}::test_files_that_are_huge_or_claim_it_take_little_memory"
REFUSED = f"{CORPUS}::test_hostile_tar_is_refused_with_a_message_and_nothing_is_written"


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (test,))


FOREIGN = (
    _one("type of a foreign member", READER, "        if kind not in FILE_TYPES:\n", "        if False:\n", REFUSED),
    _one("checksum of a foreign header", READER, '"checksum") != wanted:', '"checksum") < 0:', REFUSED),
    _one("folders above in a foreign name", READER, " or climbs or ", " or ", REFUSED),
    _one("chain of extension headers", READER, ">= self._limits.chained_extensions", "< 0", REFUSED),
    _one("what a PAX record may say", READER, "if name not in HARMLESS_PAX and not", "if False and not", REFUSED),
    _one("data behind a foreign tar", READER, "if chunk.count(0) != len(chunk):", "if False:", REFUSED),
    _one("end of a foreign tar", READER, "if not header and self._limits.unended:", "if not header:", REFUSED),
    _one("sample that comes back", TAR_INDEX, "            if mark in names:\n", "            if False:\n", REFUSED),
    _one("member given twice", TAR_INDEX, "if member in sample.kept or", "if", REFUSED),
    _one("frames that cut samples", TAR_INDEX, "> frame.tar_offset + frame.tar_bytes:", "< 0:", REFUSED),
    _one("frames of different numbers", TAR_INDEX, "(count > self._refs[0].samples or self._short())", "0", REFUSED),
    _one("size of a foreign frame", STREAMING, "if size > FRAME_BYTES:", "if size < 0:", BOUNDED),
    _one(
        "lock of indexing on first use",
        INDEXING,
        "        fcntl.flock(descriptor, fcntl.LOCK_EX)\n",
        "",
        f"{ONCE}::test_several_processes_index_once",
    ),
    _one(
        "second look when the lock is there",
        INDEXING,
        "            found = _current(folder, tars) or _index_in_cache(folder, tars)\n",
        "            found = _index_in_cache(folder, tars)\n",
        f"{ONCE}::test_several_processes_index_once",
    ),
    _one(
        "digest of a tar's record",
        INDEXING,
        "blake3.blake3(body).hexdigest().encode() == digest and entry",
        "entry",
        f"{ONCE}::test_what_is_left_of_an_earlier_run_is_not_believed_blindly",
    ),
    _one(
        "index that a record names",
        INDEXING,
        "    return record if same and whole and there else None\n",
        "    return record if same and whole else None\n",
        f"{ONCE}::test_what_is_left_of_an_earlier_run_is_not_believed_blindly",
    ),
    _one(
        "tag of a tar",
        INDEXING,
        "(record.path, record.bytes, record.tag) == (tar.path, tar.bytes, tar.tag)",
        "(record.path, record.bytes) == (tar.path, tar.bytes)",
        f"{ONCE}::test_a_tar_of_the_same_size_that_was_written_again_is_noticed",
    ),
    _one(
        "tag of a tar on first use",
        TAR_SET,
        "[[tar.path, tar.bytes, tar.tag] for tar in self.tars]",
        "[[tar.path, tar.bytes] for tar in self.tars]",
        f"{ONCE}::test_a_tar_of_the_same_size_that_was_written_again_is_noticed",
    ),
    _one(
        "change while a tar is indexed",
        INDEXING,
        "(isinstance(again, Tagged) and again.tag(name) != tar.tag)",
        "False",
        f"{ONCE}::test_a_tar_that_changes_while_it_is_indexed_is_refused",
    ),
    _one(
        "secrets of a tar's URL",
        TAR_SET,
        '[scrub(place) if "://" in place else Path(',
        '[place if "://" in place else Path(',
        f"{READ}::test_secrets_of_urls_are_in_no_file_and_no_message",
    ),
    _one(
        "paths of this machine in a manifest",
        ROUTING,
        "    if outside is not None:\n",
        "    if False:\n",
        f"{READ}::test_a_manifest_may_not_name_files_of_this_machine",
    ),
    _one(
        "hosts in a manifest",
        ROUTING,
        "origin(url) not in self._trusted:",
        "origin(url) is None:",
        f"{READ}::test_a_manifest_that_names_a_private_host_is_refused_until_the_user_has_named_it",
    ),
    _one(
        "index of a foreign tar once more",
        VERIFYING,
        "    if made.entry.index != entry.index:\n",
        "    if False:\n",
        f"{READ}::test_verify_names_the_sample_that_was_altered",
    ),
    _one(
        "repair of what lies elsewhere",
        REPAIR,
        "        if path in self._elsewhere:\n",
        "        if False:\n",
        f"{READ}::test_repair_writes_no_tar_that_others_made",
    ),
)
