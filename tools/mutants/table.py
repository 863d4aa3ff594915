"""The mutants: each safeguard that design and faults name, taken out, and the tests that must notice.

Here: exact text of the code and what it becomes.
Elsewhere: trying them (trial.py). Whoever changes a line named here changes it here too: the command fails otherwise.
"""

from __future__ import annotations

from tools.mutants.curating import CURATING
from tools.mutants.foreign import FOREIGN
from tools.mutants.mixing import MIXING
from tools.mutants.packing import PACKING
from tools.mutants.stores import STORES
from tools.mutants.taking import TAKING
from tools.mutants.trial import Mutant
from tools.mutants.writing import WRITING

FS, SHARD, PUBLISH = "shardkit/store/fs.py", "shardkit/store/shard.py", "shardkit/store/publish.py"
RECOVERY, MANIFEST, INDEX = "shardkit/store/recovery.py", "shardkit/store/manifest.py", "shardkit/store/index.py"
VERIFY, FETCH, ORDER = "shardkit/store/verify_shard.py", "shardkit/read/fetch.py", "shardkit/read/order.py"
LISTING, ENGINE, FINISH = "shardkit/sources/listing.py", "shardkit/build/engine_local.py", "shardkit/build/finish.py"

CUT = "tests/faults/test_power.py::test_power_cut_loses_no_commit_and_leaves_nothing_dangling"
DURABLE = "tests/faults/test_power.py::test_when_a_build_returns_everything_is_durable"
CALLS = "tests/faults/test_strace.py::test_all_system_calls_that_write_come_from_the_one_module"
ORDER_OF_FORMAT = "tests/store/test_publish.py::test_every_publication_follows_the_order_of_the_format"
LIES = "tests/faults/test_errors.py::test_disk_that_lies_is_found_out_before_publishing"
SHORT = "tests/faults/test_errors.py::test_short_writes_are_written_on"
KILLED = "tests/faults/test_calls.py::test_kill_at_every_call_resumes_to_the_same_version"
VERIFIED = "tests/store/test_verify.py"
PUBLISHED = "tests/store/test_publish.py"
CHAIN = "tests/store/test_manifest.py"
READ = "tests/read/test_dataset.py"
CHUNKS = "tests/read/test_member.py::test_a_flipped_byte_is_noticed_where_it_is_needed_and_nowhere_else"
SPANS = "shardkit/read/spans.py"
FLIPPED = "tests/read/test_spans.py::test_a_flipped_byte_takes_one_sample_out_of_a_batch_and_says_which"
ALONE = "tests/faults/test_checks.py"
PAGES = f"{ALONE}::test_head_and_single_pages_of_an_index_have_digests_of_their_own"
STORED_ORDER = f"{ALONE}::test_samples_read_in_stored_order_are_checked"
FLIPS_OF_CHAIN = f"{VERIFIED}::test_flips_and_cuts_of_pointer_manifest_columns_and_dead_letters_are_found"
FLIPS_OF_SHARD = f"{VERIFIED}::test_every_flipped_bit_of_a_shard_is_found"
GARBAGE = "tests/build/test_finish.py::test_published_files_that_no_commit_names_are_removed_at_the_end"


def _one(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)


FORCES = (
    _one("fsync of files is never called", FS, "lambda: os.fsync(self._fd)", "lambda: None", CALLS),
    _one("fsync of folders is never called", FS, "        os.fsync(fd)\n", "        pass\n", CALLS),
    _one("shard not forced", "shardkit/store/streams.py", "        self._run(self._file.sync)\n", "", CUT),
    _one("small files not forced", FS, "        file.sync()\n", "", CUT),
    _one("listing of a source not forced", LISTING, "        file.sync()\n", "", DURABLE),
    _one("names of published files not forced", PUBLISH, "    fs.sync_folder(final.parent)\n", "", CUT),
    _one("name of the pointer not forced", PUBLISH, "    fs.sync_folder(root)\n", "", CUT),
    _one("name of a new folder not forced", FS, "    sync_folder(path.parent)\n", "", CUT),
    _one("name of a listing not forced", LISTING, "    fs.sync_folder(path.parent)\n", "", DURABLE),
    _one("what a killed build left is not forced", RECOVERY, "    _sync_folders(root)\n", "", DURABLE),
    _one(
        "removal of garbage not forced",
        RECOVERY,
        "path, _ in plan.files}):\n        fs.sync_folder(folder)\n",
        "path, _ in plan.files}):\n        pass\n",
        "tests/faults/test_tidying.py::test_removed_garbage_stays_away_after_a_power_cut",
    ),
    _one(
        "removal of discarded commits not forced",
        RECOVERY,
        "    if gone:\n        fs.sync_folder(folder)\n",
        "",
        "tests/faults/test_tidying.py::test_discarded_commits_stay_away_after_a_power_cut",
    ),
)

READ_BACKS = (
    _one(
        "shard not read back",
        SHARD,
        "if size != self._file.bytes or found.digest() != self._out.check.digest():",
        "if False:",
        LIES,
    ),
    _one("small files not read back", FS, 'if b"".join(read_chunks(path)) != data:', "if False:", LIES),
    _one("listing not read back", LISTING, "if read.digest() != written.digest():", "if False:", LIES),
    _one(
        "sorted keys not read back",
        "shardkit/build/duplicates.py",
        "if read.digest() != written.digest():",
        "if False:",
        LIES,
    ),
    _one("short write taken for a whole one", FS, "        while left.nbytes:\n", "        if left.nbytes:\n", SHORT),
)

ORDERS = (
    Mutant(
        "commit before the shard is linked",
        ENGINE,
        (
            (
                "            if draft.staged is not None:\n                publish_shard(self._root, draft.staged)\n",
                "",
            ),
            (
                "            write_commit(self._root, commit)\n",
                "            write_commit(self._root, commit)\n"
                "            if draft.staged is not None:\n                publish_shard(self._root, draft.staged)\n",
            ),
        ),
        (CUT,),
    ),
    Mutant(
        "pointer before the version",
        PUBLISH,
        (
            ("    publish_bytes(root / version_path(digest), data)\n", ""),
            (
                "    point_at(root, Pointer(version=digest, bytes=size))\n",
                "    point_at(root, Pointer(version=digest, bytes=size))\n"
                "    publish_bytes(root / version_path(digest), data)\n",
            ),
        ),
        (CUT,),
    ),
    Mutant(
        "index after the commit",
        PUBLISH,
        (
            ("    publish_file(staged.index, root / index_path(staged.entry.index.digest))\n", ""),
            (
                "    publish_bytes(commit_path(root, commit.lane, commit.number), encode_commit(commit))\n",
                "    publish_bytes(commit_path(root, commit.lane, commit.number), encode_commit(commit))\n"
                "    for staged in sorted((root / 'indexes').glob('.stage-*')):\n"
                "        publish_file(staged, root / index_path(blake3.blake3(staged.read_bytes()).hexdigest()))\n",
            ),
        ),
        (CUT,),
    ),
    _one(
        "staged file linked before it is forced",
        FS,
        "        file.sync()\n        file.close()\n        if b",
        "        file.close()\n        if b",
        ORDER_OF_FORMAT,
    ),
    _one("temporaries stay", RECOVERY, "        fs.unlink(path)\n    _sync", "        pass\n    _sync", KILLED),
    _one("bad file with a good name is kept", PUBLISH, "if new or _same(staged, final):", "if True:",
         f"{PUBLISHED}::test_good_existing_file_is_kept_and_a_bad_one_is_replaced"),
    _one("commits whose files are gone are kept", RECOVERY, "            commits = commits[:at]\n            break",
         "            break", f"{PUBLISHED}::test_recovery_discards_from_the_first_missing_or_cut_file_on"),
    _one("damaged last shard is kept", RECOVERY, "            commits = commits[:at]\n        elif",
         "            pass\n        elif", f"{PUBLISHED}::test_recovery_checks_the_digests_of_the_last_shard"),
    _one("garbage stays", FINISH, "    if garbage.files:\n", "    if False:\n", GARBAGE),
)  # fmt: skip

LOCKS = (
    _one(
        "no lock",
        PUBLISH,
        "        _take(fd, path, root)\n",
        "        pass\n",
        f"{PUBLISHED}::test_second_builder_fails_at_once_and_touches_nothing",
    ),
    _one(
        "lock inherited by children",
        PUBLISH,
        '        fs.overwrite(fd, path, f"pid',
        '        os.set_inheritable(fd, True)\n        fs.overwrite(fd, path, f"pid',
        f"{PUBLISHED}::test_started_child_does_not_keep_the_lock",
    ),
)

CHAIN_DIGESTS = (
    _one("pointer not canonical", MANIFEST, "if not sane or data != encode_pointer(pointer):", "if not sane:", CHAIN),
    _one("manifest's digest", MANIFEST, "    if found != digest:\n", "    if False:\n", CHAIN, FLIPS_OF_CHAIN),
    _one(
        "length of the manifest in the pointer",
        MANIFEST,
        "if raw_bytes is not None and len(raw) != raw_bytes:",
        "if False:",
        CHAIN,
    ),
    _one(
        "seal of a version's file",
        MANIFEST,
        "if data[: len(SEAL_MAGIC)] != SEAL_MAGIC or blake3.blake3(frame).digest(length=16) != data[8:SEAL_BYTES]:",
        "if False:",
        FLIPS_OF_CHAIN,
    ),
    _one(
        "digest of columns and dead letters",
        MANIFEST,
        "if len(data) != ref.bytes or digest != ref.digest:",
        "if False:",
        FLIPS_OF_CHAIN,
    ),
    _one(
        "digest of a commit",
        PUBLISH,
        "if blake3.blake3(body).hexdigest().encode() != digest:",
        "if False:",
        f"{PUBLISHED}::test_commit_round_trip_and_every_altered_byte_is_noticed",
    ),
    _one(
        "digest of the plan",
        "shardkit/build/plan.py",
        "if digest_of(content.plan) != content.plan_digest:",
        "if False:",
        "tests/build/test_plan.py::test_damaged_plan_is_an_error",
    ),
    _one(
        "digest of a source's chunk",
        LISTING,
        "if blake3(chunk).digest(length=16) != self._entry.chunks[number * 16 : number * 16 + 16]:",
        "if False:",
        "tests/sources/test_files.py::test_every_byte_of_a_large_file_is_checked",
    ),
)

INDEX_DIGESTS = (
    _one("digest of the index's head", INDEX, "    if found != digest:\n", "    if False:\n", PAGES),
    _one("digest of a page", INDEX, " or blake3_128(data) != ref.digest:", ":", PAGES),
    _one("digest of the index", INDEX, "        if digest != self._entry.index.digest:\n", "        if False:\n", READ),
    _one(
        "index of another shard",
        INDEX,
        "        if said != (entry.shard.digest, entry.codec, entry.samples, entry.block_samples, entry.tar_bytes):\n",
        "        if False:\n",
        "tests/store/test_shard.py::test_index_of_another_shard_is_refused",
    ),
)

SAMPLE_DIGESTS = (
    _one("hash of a sample read alone", FETCH, "        if _xxh3(span) != wanted:\n", "        if False:\n", READ),
    _one(
        "hashes of the samples of a block",
        FETCH,
        "        if [_xxh3(span) for span in spans] != table.hashes[rows].tolist():\n",
        "        if False:\n",
        STORED_ORDER,
    ),
    _one("small spans", SPANS, "if list(map(_xxh3, data)) == wanted else None", "if True else None", FLIPPED),
    _one("large spans", SPANS, " or list(map(_xxh3, parts)) != wanted[group]:", ":", FLIPPED),
    _one("chunks", "shardkit/read/member.py", "if blake3_128(chunk) != self._digests[number]:", "if False:", CHUNKS),
    _one(
        "digests of members from the network",
        "shardkit/read/item.py",
        "            if blake3_128(members[name]) != digest:\n",
        "            if False:\n",
        "tests/read/test_remote.py::test_members_are_checked_against_their_own_digests",
    ),
    _one(
        "size of a frame",
        MANIFEST,
        "    if len(raw) != tar_bytes:\n",
        "    if False:\n",
        f"{ALONE}::test_frame_that_holds_less_than_the_index_says_is_damage",
    ),
    _one("end of a frame", MANIFEST, "allow_extra_data=False", "allow_extra_data=True", CHAIN),
)

VERIFYING = (
    _one(
        "verify: digest of the shard",
        VERIFY,
        "if stream.finish() != entry.shard.digest and len(findings.damages) == before:",
        "if False:",
        FLIPS_OF_SHARD,
    ),
    _one(
        "verify: digests of members",
        VERIFY,
        "if blake3_128(span[member.offset : member.offset + member.size]) != member.digest:",
        "if False:",
        f"{VERIFIED}::test_damage_is_named_by_file_sample_and_member",
    ),
    _one(
        "verify: hash of a sample",
        VERIFY,
        "if len(place.findings.damages) == before and xxhash.xxh3_64_intdigest(span) != rows.hashes[at]:",
        "if False:",
        f"{VERIFIED}::test_wrong_hash_of_a_span_in_a_good_index_is_found",
    ),
    _one(
        "verify: key",
        VERIFY,
        "elif key_from_digests(sample, [(member.name, member.digest) for member in members[1:]]) != place.key:",
        "elif False:",
        f"{VERIFIED}::test_writer_that_lies_with_good_digests_is_found",
    ),
    _one(
        "verify: end of the tar",
        VERIFY,
        "    if rest != tar.END or stream.left:\n",
        "    if False:\n",
        f"{ALONE}::test_end_of_a_tar_that_is_not_zeros_is_damage",
    ),
    _one(
        "verify: lengths of files",
        VERIFY,
        "    if size != wanted:\n",
        "    if False:\n",
        f"{VERIFIED}::test_every_cut_of_a_shard_is_found",
    ),
)

KEYED = "        self._block_key, self._tail_key, self._window_key = derive_keys(LABEL, seed, epoch, 3)\n"
KEYS = "tests/read/test_order.py::test_blocks_tails_and_windows_each_depend_on_the_key"

READING = (
    _one("key of the block permutation", ORDER, KEYED, f"{KEYED}        self._block_key = 0\n", KEYS),
    _one("key of the tails", ORDER, KEYED, f"{KEYED}        self._tail_key = 0\n", KEYS),
    _one("key of the windows", ORDER, KEYED, f"{KEYED}        self._window_key = 0\n", KEYS),
    _one(
        "number of the window in its key",
        ORDER,
        "key = mix64(mix64(self._window_key + number) + window)",
        "key = mix64(mix64(self._window_key + number))",
        "tests/read/test_order.py",
    ),
    _one(
        "file that changed on the server",
        "shardkit/store/http.py",
        '        if known is not None and known.removeprefix("W/") != weak:\n',
        "        if False:\n",
        "tests/store/test_http.py::test_object_that_changes_in_between_is_damage",
    ),
    _one(
        "range that the server says it sends",
        "shardkit/store/http.py",
        "        if match is None or int(match[1]) != first:\n",
        "        if match is None:\n",
        "tests/store/test_http.py",
    ),
)

RESUMING = (
    _one(
        "size of a source's file",
        LISTING,
        "        if os.fstat(self._file.fileno()).st_size != entry.size:\n",
        "        if False:\n",
        "tests/sources/test_files.py::test_file_that_changed_since_planned_stops_the_lane",
    ),
    _one(
        "tools that a build was begun with",
        "shardkit/build/settle.py",
        "    _check_toolchains(root, wish.spec, plan, commits)\n",
        "",
        "tests/build/test_resume.py::test_resume_with_other_tools_is_refused_for_lanes_that_are_not_done",
    ),
)

CACHED = "tests/read/test_diskcache.py"
SHARED_CACHE = "tests/read/test_diskcache_shared.py"
CACHING = (
    _one(
        "seal of a copy in the disk cache",
        "shardkit/read/diskcache.py",
        "    return data if os.pread(fd, SEAL_BYTES + 1, size) == _seal(key, data) else None\n",
        "    return data\n",
        f"{CACHED}::test_a_copy_with_any_bit_flipped_or_any_byte_missing_is_no_copy",
    ),
    _one(
        "copies in the disk cache are dropped when the dataset's digests do not fit",
        "shardkit/read/cached.py",
        "    dropped = [store.cache.drop(key) for key in keys]\n",
        "    dropped: list[bool] = []\n",
        f"{CACHED}::test_a_copy_that_is_whole_but_of_other_bytes_is_removed_and_fetched_again",
    ),
    _one(
        "lease of what is in use",
        "shardkit/read/room.py",
        "            fcntl.flock(fd, fcntl.LOCK_EX)\n",
        "",
        f"{SHARED_CACHE}::test_what_another_process_has_leased_is_not_evicted_until_it_ends",
    ),
    _one(
        "one of several processes fetches what all want",
        "shardkit/read/diskcache.py",
        "                if not try_lock(fd):\n",
        "                if try_lock(fd) is None:\n",
        f"{CACHED}::test_threads_that_want_the_same_entry_load_it_once",
    ),
    _one(
        "limit of the disk cache",
        "shardkit/read/room.py",
        "            fits = used + size <= self.max_bytes\n",
        "            fits = True\n",
        f"{SHARED_CACHE}::test_a_dataset_larger_than_the_limit_keeps_what_fits_and_drops_nothing",
    ),
)

MUTANTS = (
    *FORCES, *READ_BACKS, *ORDERS, *LOCKS, *CHAIN_DIGESTS, *INDEX_DIGESTS, *SAMPLE_DIGESTS, *VERIFYING, *READING,
    *RESUMING, *CACHING, *FOREIGN, *MIXING, *PACKING, *STORES, *WRITING,
    *TAKING, *CURATING,
)  # fmt: skip
