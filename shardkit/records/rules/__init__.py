"""Rules of samples: what a text must not hold, which licences and languages are taken, who speaks after whom.

Here: the door.
Elsewhere: what a user writes (spec.rules), samples that are broken rather than unwanted (records.normalize, media).
"""

from shardkit.records.rules.apply import apply_rules as apply_rules
from shardkit.records.rules.apply import break_of as break_of
from shardkit.records.rules.apply import check_rules as check_rules
from shardkit.records.rules.apply import rules_toolchain as rules_toolchain
from shardkit.records.rules.apply import texts_of as texts_of
from shardkit.records.rules.patterns import Finding as Finding
from shardkit.records.rules.patterns import find_personal as find_personal
from shardkit.records.rules.patterns import find_secrets as find_secrets
from shardkit.records.rules.patterns import redact as redact
from shardkit.records.rules.patterns import without_secrets as without_secrets
