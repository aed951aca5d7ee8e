"""The key and the answers of a page of four questions, as files."""

import json

STUDY = "0123456789abcdef"


def write_key(folder, first=("model", "baseline", "model", "baseline")):
    """Writes the key of four questions about photorealism; returns its path."""
    questions = {
        str(i + 1): {"kind": "photorealism", "caption": "", "first": who}
        for i, who in enumerate(first)
    }
    key = {"study": STUDY, "model": "ours", "baseline": "theirs", "questions": questions}
    path = folder / "preference_key.json"
    path.write_text(json.dumps(key))
    return path


def write_answers(path, answers, rater="r1", study=STUDY):
    path.write_text(json.dumps({"study": study, "rater": rater, "answers": answers}))
    return path
