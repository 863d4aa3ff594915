"""Mutants of remote stores: each check of an answer or an address taken out, and the tests that must notice.

Here: exact text of the code and what it becomes.
Elsewhere: all other mutants (table.py), trying them (trial.py).
"""

from __future__ import annotations

from tools.mutants.trial import Mutant

WEB, ADDRESSES, OBJECTS, HUB = (f"shardkit/store/{name}.py" for name in ("web", "addresses", "objects", "hub"))
GUARDED, BUCKETS, HUBS = (f"tests/store/test_{name}.py" for name in ("guard", "objects", "hub"))
SECRETS = "tests/cli/test_secrets.py::test_states_and_reprs_hold_no_secret"


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (test,))


STORES = (
    _one(
        "login dropped across hosts",
        WEB,
        "            if origin(target) != origin(url):\n",
        "            if False:\n",
        f"{GUARDED}::test_login_is_dropped_when_a_redirect_leaves_its_server",
    ),
    _one(
        "scheme of a redirect",
        WEB,
        'if parts.scheme.lower() not in ("http", "https") or not parts.hostname:',
        "if False:",
        f"{GUARDED}::test_no_redirect_leaves_http",
    ),
    _one("queries in urllib3's log", WEB, "if _asking.get() and isinstance(", "if not isinstance(", SECRETS),
    _one(
        "address of a found host",
        ADDRESSES,
        "            self.check_address(host, text)\n",
        "            pass\n",
        f"{GUARDED}::test_name_that_leads_inside_is_refused_whatever_else_it_leads_to",
    ),
    _one(
        "only the first address of a found host",
        ADDRESSES,
        "        for text in texts:\n            self.check_address(host, text)\n",
        "        self.check_address(host, texts[0])\n",
        f"{GUARDED}::test_name_that_leads_inside_is_refused_whatever_else_it_leads_to",
    ),
    _one(
        "the checked address is the one that is used",
        ADDRESSES,
        "                (text, connection.port),\n",
        "                (connection.host, connection.port),\n",
        f"{GUARDED}::test_the_address_that_was_checked_is_the_one_that_is_used",
    ),
    _one(
        "IPv4 addresses inside of IPv6 ones",
        ADDRESSES,
        "        for one in (address, *embedded(address)):\n",
        "        for one in (address,):\n",
        f"{GUARDED}::test_private_and_reserved_addresses_are_refused_in_every_spelling",
    ),
    _one(
        "logins that data bring",
        ADDRESSES,
        "        if login is not None:\n",
        "        if False:\n",
        f"{GUARDED}::test_other_schemes_logins_and_malformed_urls_are_refused_before_anything_is_asked",
    ),
    _one(
        "object that changed in its bucket",
        OBJECTS,
        "        if self._process().tags.setdefault(reading.path, tag) != tag:\n",
        "        if False:\n",
        f"{BUCKETS}::test_object_that_changes_in_between_is_damage",
    ),
    _one(
        "object that is shorter than its range",
        OBJECTS,
        "        if size < end:\n",
        "        if False:\n",
        f"{BUCKETS}::test_short_missing_and_forbidden_files_are_told_apart",
    ),
    _one(
        "second copy of the library in a forked process",
        "shardkit/store/engine.py",
        "_load_again() if inherited else _load(scheme)",
        "_load(scheme)",
        f"{BUCKETS}::test_store_works_in_children_after_its_parent_used_it",
    ),
    _one(
        "commit of the Hub goes along into other processes",
        HUB,
        "        return self._place, self._patience, self._commit, self._endpoint\n",
        '        return self._place, self._patience, "", self._endpoint\n',
        f"{HUBS}::test_revision_is_pinned_to_its_commit_when_it_is_first_used",
    ),
    _one(
        "next page of a listing on another server",
        HUB,
        "            if origin(following) != origin(address):\n",
        "            if False:\n",
        f"{HUBS}::test_next_page_on_another_server_is_refused",
    ),
    _one(
        "token for whatever Hub a spec names",
        HUB,
        '        token = find_token() if self._endpoint == own else ""\n',
        "        token = find_token()\n",
        "tests/sources/hub/test_hub.py::test_endpoint_of_a_spec_gets_no_token",
    ),
    _one(
        "file of the Hub not held against its digest",
        "shardkit/sources/hub/remote.py",
        "len(tag) == len(pinned) and tag != pinned:\n",
        "False:\n",
        "tests/sources/hub/test_readers.py::test_file_with_other_bytes_than_pinned_stops_the_lane",
    ),
    _one(
        "row group of the Hub begun anew",
        "shardkit/sources/hub/parquet.py",
        "entry, done if here else 0)\n",
        "entry, 0)\n",
        "tests/sources/hub/test_readers.py::test_rows_behind_a_cursor_are_the_rest",
    ),
)
