"""Videos with descriptions, questions and conversations."""

from __future__ import annotations

from tests.records.published.shape import Published, Rows, film


def finevideo() -> Rows:
    scene = {
        "activities": ["a"], "audioVisualCorrelation": 0.5, "cast": ["c"], "characterInteraction": [],
        "contextualRelevance": "r", "dynamismScore": 0.5, "mood": {"description": "calm", "keyMoments": []},
        "narrativeProgression": [], "props": [], "sceneId": 1, "thematicElements": "t",
        "timestamps": {"start_timestamp": "00:00", "end_timestamp": "00:02"}, "title": "s", "videoEditingDetails": [],
    }  # fmt: skip
    metadata = {
        "characterList": [], "description": "A red half.", "fps": 12.0, "scenes": [scene], "storylines": {"s": "x"},
        "qAndA": [{"question": "Which half?", "answer": "The left."}], "title": "t", "trimmingSuggestions": [],
    }  # fmt: skip
    outer = {
        "content_fine_category": "Science", "content_parent_category": "Education", "duration_seconds": 2,
        "original_video_filename": "a.mp4", "original_json_filename": "a.json", "resolution": "64x48",
        "text_to_speech": "", "timecoded_text_to_speech": [{"start": "0", "end": "1", "text": "x"}],
        "youtube_title": "y", "youtube_tags": ["z"],
    }  # fmt: skip
    return [
        {"mp4": film(), "json": {**outer, "content_metadata": metadata}},
        {"mp4": film(), "json": {**outer, "content_metadata": {**metadata, "qAndA": []}}},
    ]


def youcook2() -> Rows:
    return [
        {"id": "1", "youtube_id": "y", "video_path": "y.mp4", "segment": [0.0, 2.0], "sentence": "cut the bread",
         "recipe_type": "101", "video_url": "https://v.example"},
        {"id": "2", "youtube_id": "z", "video_path": "z.mp4", "segment": [2.0, 3.0], "sentence": "serve it",
         "recipe_type": "101", "video_url": "https://v.example"},
    ]  # fmt: skip


def youcook2_joined() -> Rows:
    """As above, the first row with its video out of the zips, the second with none."""
    first, second = youcook2()
    return [{**first, "video": film()}, {**second, "video": None}]


def llava_video() -> Rows:
    said = [{"from": "human", "value": "In <image>, what happens?"}, {"from": "gpt", "value": "Nothing."}]
    return [{"id": "1", "conversations": said, "data_source": "0_30_s_youtube_v0_1", "video": "y/1.mp4"}]


def llava_video_joined() -> Rows:
    """As above, with the videos of the tars in place of their paths."""
    return [{**row, "video": film()} for row in llava_video()]


def vdc() -> Rows:
    captions = {
        f"{kind}_caption": f"{kind} text" for kind in ("short", "background", "main_object", "camera", "detailed")
    }
    return [{"video_name": "a.mp4", "video_source": "x", **captions}]


def vdc_joined() -> Rows:
    """As above, with the video of the tars."""
    return [{**row, "video": film()} for row in vdc()]


DATASETS = (
    Published(
        name="HuggingFaceFV/finevideo",
        rows=finevideo,
        spec={
            "normalizer": "turns",
            "columns": {
                "video": "mp4",
                "caption": "json.content_metadata.description",
                "turns": "json.content_metadata.qAndA",
                "category": "json.content_fine_category",
            },
            "options": {"instruction": "Describe the video."},
            "media_type": "footage",
        },
        becomes=[
            [
                "user: <|video|>\nDescribe the video.",
                "assistant: A red half.",
                "user: Which half?",
                "assistant: The left.",
            ],
            ["user: <|video|>\nDescribe the video.", "assistant: A red half."],
        ],
    ),
    Published(
        name="lmms-eval/YouCook2",
        rows=youcook2,
        spec={"normalizer": "caption", "columns": {"text": "sentence"}},
        becomes=[["refused: no-media"], ["refused: no-media"]],
    ),
    Published(
        name="lmms-eval/YouCook2#joined",
        rows=youcook2_joined,
        spec={
            "normalizer": "caption",
            "columns": {"text": "sentence"},
            "options": {"instruction": "Provide a one-sentence caption for the provided video."},
        },
        becomes=[
            ["user: <|video|>\nProvide a one-sentence caption for the provided video.", "assistant: cut the bread"],
            ["refused: no-media"],
        ],
    ),
    Published(
        name="lmms-lab/LLaVA-Video-178K",
        rows=llava_video,
        suffix="jsonl",
        spec={"normalizer": "sharegpt", "options": {"needs_media": True}},
        becomes=[["refused: no-media"]],
    ),
    Published(
        name="lmms-lab/LLaVA-Video-178K#joined",
        rows=llava_video_joined,
        spec={"normalizer": "sharegpt", "options": {"needs_media": True}},
        becomes=[["user: In <|video|>, what happens?", "assistant: Nothing."]],
    ),
    Published(
        name="wchai/Video-Detailed-Caption",
        rows=vdc,
        suffix="jsonl",
        spec={"normalizer": "caption", "columns": {"text": "detailed_caption"}},
        becomes=[["refused: no-media"]],
    ),
    Published(
        name="wchai/Video-Detailed-Caption#joined",
        rows=vdc_joined,
        spec={
            "normalizer": "caption",
            "columns": {"text": "detailed_caption"},
            "options": {"instruction": "Describe the video in detail."},
        },
        becomes=[["user: <|video|>\nDescribe the video in detail.", "assistant: detailed text"]],
    ),
)
