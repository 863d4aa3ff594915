"""Rules: secrets and personal data found and hidden, languages, licences, lengths; in builds and alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from shardkit import BuildSpec, SpecError, build_dataset, convert_spec, open_dataset
from shardkit.errors import Refused
from shardkit.records.row import Draft, Kept, RawMedium
from shardkit.records.rules import apply_rules, find_personal, find_secrets, redact
from shardkit.records.rules.language import identify
from shardkit.records.sample import Image, Message, Modalities, Preference
from shardkit.spec import Rules

SECRETS = {
    "aws-key": "AKIAIOSFODNN7ABCDEFG",
    "github-token": "ghp_" + "aB3dE6gH9" * 4,
    "gitlab-token": "glpat-aB3dE6gH9jK2mN5pQ8sT",
    "slack-token": "xoxb-123456789012-123456789012-aB3dE6gH9jK2",
    "google-key": "AIza" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI"[:35],
    "stripe-key": "sk_live_" + "aB3dE6gH9jK2mN5pQ8sT",
    "openai-key": "sk-proj-" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6",
    "hugging-face-token": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8hoqzS1\n-----END RSA PRIVATE KEY-----",
}
PERSONAL = {
    "email": "jane.doe+list@corp.co.uk",
    "phone": "+49 170 1234567",
    "iban": "DE89 3704 0044 0532 0130 00",
    "card-number": "4539-5787-6362-1486",
    "ssn": "219-09-9999",
    "ip-address": "8.8.8.8",
}
HARMLESS = (
    "AKIAIOSFODNN7EXAMPLE", "https://user:password@host", 'api_key = "your-api-key-goes-here"', "sk-learn is a library",
    "git@github.com:a/b.git", "a@example.com", "10.0.0.1 and 127.0.0.1", "1.2.3.4.5", "version 10.20.30.400",
    "4111 1111 1111 1112", "DE00 3704 0044 0532 0130 00", "the year 2024-05-17", "+1", "1234567890123456",
    "password: str", "token = os.environ['TOKEN']", "f(a, b) - 123-45-678",
)  # fmt: skip


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_wherever_it_stands(kind: str) -> None:
    text = f"before {SECRETS[kind]} after"
    (found,) = find_secrets(text)
    assert found.kind == kind and text[found.start : found.end] == SECRETS[kind]
    assert redact(text, [found]) == f"before [redacted {kind}] after"


@pytest.mark.parametrize("kind", PERSONAL)
def test_personal_data_is_found_wherever_it_stands(kind: str) -> None:
    text = f"see {PERSONAL[kind]}, please"
    (found,) = find_personal(text)
    assert found.kind == kind and text[found.start : found.end] == PERSONAL[kind]


def test_passwords_in_addresses_and_assignments_are_found_without_what_is_around() -> None:
    text = 'postgres://bob:Sup3rS3cr3tPw@db/x and client_secret: "aB3dE6gH9jK2mN5pQ8sT"'
    assert redact(text, find_secrets(text)) == (
        'postgres://bob:[redacted password-in-url]@db/x and client_secret: "[redacted assigned-secret]"'
    )


@pytest.mark.parametrize(
    "head",
    [
        "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n",
        "PGP PRIVATE KEY BLOCK-----\nV: 1\n",
    ],
)
def test_a_private_key_is_found_whatever_its_headers(head: str) -> None:
    name = head.partition("-----")[0]
    text = f"-----BEGIN {head}\nMIIEpAIBAAKCAQEA04up8hoqzS1\n=k1/Q\n-----END {name}-----"
    assert redact(f"a {text} b", find_secrets(f"a {text} b")) == "a [redacted private-key] b"


def test_of_findings_that_overlap_nothing_is_left_to_read() -> None:
    text = "call +1 4539 5787 6362 1486 now"
    assert redact(text, find_personal(text)) == "call [redacted phone] now"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_alike_is_left(text: str) -> None:
    assert find_secrets(text) == [] and find_personal(text) == []


@given(st.lists(st.sampled_from([*SECRETS.values(), *PERSONAL.values(), *HARMLESS, "word ", "\n", "=", "é"])))
def test_findings_do_not_overlap_and_nothing_is_found_twice(parts: list[str]) -> None:
    text = " ".join(parts)
    for find in (find_secrets, find_personal):
        found = find(text)
        assert all(one.end <= other.start for one, other in pairwise(found))
        assert find(redact(text, found)) == []


@given(st.text(max_size=300))
def test_any_text_is_looked_through(text: str) -> None:
    for find in (find_secrets, find_personal):
        assert all(0 <= found.start < found.end <= len(text) for found in find(text))


BEGINNINGS = (
    *("eyJ", "AKIA", "ghp_", "github_pat_", "glpat-", "xoxb-", "AIza", "sk_live_", "sk-", "hf_", "npm_", "pypi-AgE"),
    *("SG.", "api_key = ", "password='", "a://b:", "a@b", "+1 ", "AB12 ", "1234-", "1.", "1", "-----BEGIN A "),
    "-----BEGIN PRIVATE KEY-----",
)


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_text_however_made_takes_long(beginning: str) -> None:
    """A pattern that goes back over the text for each beginning takes minutes for these, not a moment."""
    length = 2_000_000 if beginning == "eyJ" else 60_000
    for more in ("", "-aB3", "aB3aB3aB3aB3aB3.", '"12 3456 '):
        text = (beginning + more) * (length // len(beginning + more))
        assert len(redact(text, find_secrets(text))) > 0 and len(redact(text, find_personal(text))) > 0


def draft(*contents: str, **more: Any) -> Draft:
    messages = tuple(Message(role="user", content=content) for content in contents)
    return Draft(id="1", messages=messages, domain="d", category="c", source="s", **more)


@pytest.mark.parametrize(
    ("rules", "made", "reason", "detail"),
    [
        ({"licences": ("free",)}, draft("x", licence="cc-by-nc-4.0"), "licence", "cc-by-nc-4.0 is non-commercial"),
        ({"licences": ("free",)}, draft("x"), "licence", "none given is unknown"),
        ({"min_characters": 3}, draft("x"), "text-length", "1 characters, at least 3"),
        ({"max_characters": 3}, draft("xx", "xx"), "text-length", "4 characters, at most 3"),
        ({"max_messages": 1}, draft("x", "y"), "text-length", "2 messages, at most 1"),
        ({"secrets": "refuse"}, draft(SECRETS["aws-key"]), "secret", "aws-key"),
        ({"personal": "refuse"}, draft("x", preference=Preference(chosen="y", rejected="a.b@corp.io")),
         "personal-data", "email"),
        ({"types": ("chart",)}, draft("x", media=(RawMedium(modality="image", type="photo", data=b""),)),
         "media-type", "photo"),
    ],
)  # fmt: skip
def test_a_broken_rule_has_its_reason_and_never_the_secret(
    rules: dict[str, Any], made: Draft, reason: str, detail: str
) -> None:
    with pytest.raises(Refused) as caught:
        apply_rules(made, Rules(**rules))
    assert (caught.value.reason, caught.value.detail) == (reason, detail)


def test_a_sample_that_keeps_the_rules_is_left_as_it_is() -> None:
    rules = Rules(licences=("free", "x"), secrets="redact", personal="redact", max_characters=100, types=("chart",))
    for licence in ("mit", "x"):
        made = draft("hello", licence=licence)
        assert apply_rules(made, rules) is made


def test_answers_are_redacted_too() -> None:
    made = draft(SECRETS["aws-key"], preference=Preference(chosen="a.b@corp.io", rejected="no"))
    found = apply_rules(made, Rules(secrets="redact", personal="redact"))
    assert found.messages[0].content == "[redacted aws-key]"
    assert found.preference == Preference(chosen="[redacted email]", rejected="no")


def spread(secret: str) -> Draft:
    media = (RawMedium(modality="image", type="photo", data=b"", description=f"a {secret}"),)
    provenance = {"position": f"{secret}:1", "url": f"of {secret}", "group": secret}
    return Draft(id=secret, messages=draft("x").messages, domain="d", category=secret, source="s", licence=secret,
                 media=media, provenance=provenance)  # fmt: skip


def test_secrets_are_hidden_in_all_that_stands_around_the_texts() -> None:
    secret = SECRETS["github-token"]
    found = apply_rules(spread(secret), Rules(secrets="redact"))
    assert secret not in repr(found) and repr(found).count("[redacted github-token]") == 7
    with pytest.raises(Refused, match="secret: github-token"):
        apply_rules(spread(secret), Rules(secrets="refuse"))
    assert apply_rules(spread("harmless"), Rules(secrets="redact", personal="redact")) == spread("harmless")


def test_personal_data_is_hidden_in_what_is_said_and_left_in_names() -> None:
    card = PERSONAL["card-number"]
    found = apply_rules(spread(card), Rules(personal="redact"))
    assert (found.media[0].description, found.provenance["url"]) == (
        "a [redacted card-number]",
        "of [redacted card-number]",
    )
    assert (found.id, found.category, found.provenance["group"]) == (card, card, card)
    with pytest.raises(Refused, match="personal-data: card-number"):
        apply_rules(spread(card), Rules(personal="refuse"))


def stored(**media: Any) -> Draft:
    image = Image(member="image0.png", type="photo", width=1, height=1, **media)
    return draft("x", kept=Kept(modalities=Modalities(image=(image,)), members=()))


def test_media_that_a_dataset_had_stored_keep_the_rules_too() -> None:
    found = apply_rules(stored(description=SECRETS["aws-key"]), Rules(secrets="redact"))
    assert found.kept is not None and found.kept.modalities.image[0].description == "[redacted aws-key]"
    with pytest.raises(Refused, match="media-type: photo"):
        apply_rules(stored(), Rules(types=("chart",)))


def test_a_dead_letter_does_not_say_the_secret_that_its_row_holds(tmp_path: Path) -> None:
    secret = SECRETS["github-token"]
    rows = [
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], **more}
        for more in ({}, {"images": [secret]})
    ]
    (tmp_path / "chat.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    source = {"kind": "plain", "name": "a", "path": str(tmp_path / "chat.jsonl"), "normalizer": "plain"}
    build_dataset(convert_spec({"name": "a", "sources": [source]}, BuildSpec, "test"), out=tmp_path / "data", workers=0)
    (letters,) = (path for path in (tmp_path / "data/deadletters").rglob("*") if path.is_file())
    told = zstandard.ZstdDecompressor().decompressobj().decompress(letters.read_bytes())
    assert b"[redacted github-token]" in told and secret.encode() not in told


def test_languages_are_told_apart_and_code_says_nothing() -> None:
    pytest.importorskip("py3langid")
    assert identify("Wie viele Äpfel bleiben übrig, wenn Anna drei davon isst und zwei verschenkt?") == "de"
    assert identify("Please write a function that adds two numbers, and handle lists that are empty.") == "en"
    assert identify("```python\ndef wie_viele_aepfel(anna): return anna - 3 # und zwei verschenkt\n```") == ""
    assert identify("ok") == ""
    assert identify("De snelle bruine vos springt over de luie hond, en dan gaat hij in de tuin zitten.") == "nl"
    rules = Rules(languages=("en",))
    with pytest.raises(Refused, match="language: de"):
        apply_rules(draft("Wie viele Äpfel bleiben übrig, wenn Anna drei davon isst und zwei verschenkt?"), rules)


def test_a_build_refuses_redacts_and_keeps_as_its_rules_say(tmp_path: Path) -> None:
    rows = [{"question": f"How? {text}", "answer": "So."} for text in ("", SECRETS["aws-key"], PERSONAL["email"])]
    (tmp_path / "chat.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    source = {"kind": "jsonl", "name": "a", "path": str(tmp_path / "chat.jsonl"), "normalizer": "question_answer"}
    raw = {
        "name": "ruled", "rules": {"secrets": "refuse", "personal": "redact"}, "duplicates": "keep",
        "sources": [source, {**source, "name": "b", "rules": {}}],
    }  # fmt: skip
    result = build_dataset(convert_spec(raw, BuildSpec, "test"), out=tmp_path / "data", workers=0)
    dataset = open_dataset(tmp_path / "data")
    lanes = dataset.manifest.lanes.values()
    assert [lane.refused for lane in lanes] == [{"secret": 1}, {}] and result.samples == 5
    assert dataset[1].sample.messages[0].content == "How? [redacted email]"
    assert dataset.manifest.plan.sources[0].config["rules"]["secrets"] == "refuse"


def test_impossible_rules_are_named() -> None:
    for raw, told in (({"languages": ["English"]}, "ISO 639-1"), ({"min_characters": 5, "max_characters": 1}, "most")):
        with pytest.raises(SpecError, match=told):
            convert_spec(raw, Rules, "test")
