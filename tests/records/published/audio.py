"""Speech and sounds."""

from __future__ import annotations

from typing import Any

from tests.records.published.shape import Published, Rows, sound


def common_voice() -> Rows:
    return [
        {"client_id": "c", "path": "common_voice_en_1.mp3", "audio": sound(), "sentence": "He said: \"No.\"",
         "up_votes": 2, "down_votes": 0, "age": "twenties", "gender": "female", "accent": "", "locale": "en",
         "segment": "", "variant": ""},
        {"client_id": "d", "path": "common_voice_en_2.mp3", "audio": sound(1), "sentence": "",
         "up_votes": 2, "down_votes": 0, "age": "", "gender": "", "accent": "", "locale": "en", "segment": "",
         "variant": ""},
    ]  # fmt: skip


def common_voice_sentences() -> Rows:
    """As above without the clips, as lines of text: what transcript/LANGUAGE/SPLIT.tsv holds."""
    kept = ("client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent", "locale", "segment")
    return [{name: str(row[name]) for name in kept} for row in common_voice()]


def librispeech() -> Rows:
    return [
        {"file": "374-180298-0000.flac", "audio": sound(), "text": "WHAT I SAID I'D SAY", "speaker_id": 374,
         "chapter_id": 180298, "id": "374-180298-0000"},
    ]  # fmt: skip


def librispeech_lmms() -> Rows:
    return [{"audio": sound(), "gt": "what he said", "source": "dev-clean", "task": "ASR", "prompt": "Transcribe."}]


def audiocaps() -> Rows:
    def row(number: int, video: str, caption: str) -> dict[str, Any]:
        clip = {"youtube_id": video, "start_time": 30, "audio": sound(ord(video) - ord("a")), "audio_length": 160_000}
        return {"audiocap_id": number, "caption": caption, **clip}

    return [row(1, "a", "A dog."), row(2, "a", "A dog barks."), row(3, "b", "Rain."), row(4, "b", "Rain falls.")]


REQUEST = "user: <|audio|>\nDescribe the sound."
DATASETS = (
    Published(
        name="fixie-ai/common_voice_17_0",
        rows=common_voice,
        spec={"normalizer": "asr", "columns": {"text": "sentence"}, "language": "en"},
        becomes=[
            ["user: <|audio|>\nTranscribe this recording.", 'assistant: He said: "No."'],
            ["refused: empty-text"],
        ],
    ),
    Published(
        name="fsicoli/common_voice_17_0",
        rows=common_voice_sentences,
        spec={"normalizer": "asr", "columns": {"text": "sentence"}, "language": "en"},
        becomes=[["refused: no-media"], ["refused: no-media"]],
    ),
    Published(
        name="openslr/librispeech_asr",
        rows=librispeech,
        spec={"normalizer": "asr", "columns": {"id": "id"}, "options": {"case": "sentence"}, "language": "en"},
        becomes=[["user: <|audio|>\nTranscribe this recording.", "assistant: What I said I'd say"]],
    ),
    Published(
        name="lmms-lab-audio/librispeech",
        rows=librispeech_lmms,
        spec={"normalizer": "transcript", "columns": {"text": "gt"}},
        becomes=[["user: <|audio|>", "assistant: what he said"]],
    ),
    Published(
        name="OpenSound/AudioCaps",
        rows=audiocaps,
        spec={
            "normalizer": "caption",
            "columns": {"text": "caption"},
            "options": {"instruction": "Describe the sound."},
            "media_type": "sound",
        },
        becomes=[[REQUEST, f"assistant: {caption}"] for caption in ("A dog.", "A dog barks.", "Rain.", "Rain falls.")],
    ),
    Published(
        name="OpenSound/AudioCaps#clips",
        rows=audiocaps,
        spec={
            "normalizer": "caption",
            "columns": {"text": "caption"},
            "options": {"instruction": "Describe the sound.", "several": "all"},
            "gather": {"by": ["youtube_id", "start_time"]},
        },
        becomes=[[REQUEST, "assistant: A dog.\nA dog barks."], [REQUEST, "assistant: Rain.\nRain falls."]],
    ),
)
