"""Mutants of the thread that writes a shard's file: its errors, its fsync, what waits for it.

Here: exact text of the code and what it becomes.
Elsewhere: the other mutants (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

STREAMS, SHARD, FS, PAGES = (f"shardkit/store/{name}.py" for name in ("streams", "shard", "fs", "pages"))
THREAD, LARGE = "tests/store/test_streams.py", "tests/faults/test_large.py"


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (test,))


WRITING = (
    _one("errors of the thread that writes", STREAMS, "self._waiting[0].result()", "self._waiting[0].exception()",
         f"{LARGE}::test_failing_call_of_the_thread_stops_the_build"),
    _one("the first error of the thread stays", STREAMS,
         "        self._waiting[0].result()\n        self._waiting.popleft()\n",
         "        self._waiting.popleft().result()\n",
         f"{THREAD}::test_error_of_the_thread_is_raised_by_everything_that_follows"),
    _one("fsync of the thread is waited for", STREAMS, "        finally:\n            self.finish()\n",
         "        finally:\n            pass\n",
         f"{THREAD}::test_an_fsync_that_fails_behind_the_read_back_is_waited_for"),
    _one("large shard not forced", STREAMS, "        self._run(self._file.sync)\n",
         "        self._run(self._file.sync) if self._thread is None else None\n",
         f"{LARGE}::test_everything_is_durable_when_the_build_returns"),
    _one("large shard not read back", STREAMS, "            meanwhile()\n",
         "            meanwhile() if self._thread is None else None\n",
         f"{LARGE}::test_lies_about_a_large_write_are_found_out"),
    _one("large buffers are waited for", STREAMS, "        if size > WAITING_BYTES:\n", "        if False:\n",
         f"{THREAD}::test_a_large_buffer_is_not_kept_while_the_next_one_is_made"),
    _one("an abandoned shard ends its thread", SHARD, '"""Throw everything away."""\n        self._out.close()\n',
         '"""Throw everything away."""\n',
         f"{THREAD}::test_abandoned_shard_leaves_no_file_and_no_thread_while_writes_wait"),
    _one("a shard that failed is thrown away", SHARD, "            self.abandon()\n            raise\n",
         "            raise\n", f"{THREAD}::test_interrupted_shard_leaves_no_file_and_no_thread"),
    _one("words that an index cannot count", PAGES, "    if len(known) > MAX_WORDS:\n", "    if False:\n",
         f"{THREAD}::test_more_words_than_an_index_counts_end_the_shard_with_an_error_that_says_so"),
    _one("failure to close", FS, '_guard("close", str(self.path), lambda: os.close(fd))', "os.close(fd)",
         f"{THREAD}::test_descriptor_that_cannot_be_closed_is_a_failure_of_storage"),
)  # fmt: skip
