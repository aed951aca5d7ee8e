"""Win rates of a model over a baseline, from the answers of the page of suite `preference`.

The form is that of unCLIP's table 1: the share that prefers the model, with a normal 95% interval.
"Not sure" counts as half a win for each. The paper gives that choice to its raters and does not say
how it counts. The table's intervals follow from n = 1000 and the variance of a share, p (1 - p)/n;
the same comes out here if each question has one answer and none is "not sure".
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from unclip_jax.core.errors import UserError
from unclip_jax.core.files import read_mapping
from unclip_jax.evals.metrics import Metric
from unclip_jax.evals.outputs import PREFERENCE_KEY

KINDS = ("photorealism", "caption", "diversity")
CHOICES = ("first", "second", "not sure")
NORMAL = 1.959963984540054  # 97.5% quantile of the normal distribution
EVEN = 0.5
RECIPE = "share that prefers the model; not sure: half; normal interval, a question's answers joint"
AGAIN = "save it again from the page"


@dataclasses.dataclass(frozen=True)
class Key:
    """Which model a page shows first.

    Attributes:
        study: id of the page.
        model, baseline: names of the bundles.
        kinds: what each question asks, by its id.
        first: whether the model, not the baseline, is the first of a question.
    """

    study: str
    model: str
    baseline: str
    kinds: dict[str, str]
    first: dict[str, bool]


@dataclasses.dataclass(frozen=True)
class Answer:
    """A rater's answer to a question: 1 for the model, 0 for the baseline, 0.5 for not sure."""

    question: str
    kind: str
    score: float


def find_key(out: Path, answers: Sequence[Path]) -> Path:
    """Returns the page's key: in the folder `out`, or beside the first file of answers."""
    places = [folder / PREFERENCE_KEY for folder in (out, answers[0].parent)]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"there is no {PREFERENCE_KEY} in {out} or beside {answers[0]}; pass the page's folder as "
        "--out"
    )


def read_key(path: Path) -> Key:
    """Reads the key of a page.

    Raises:
        UserError: the file is missing or of another form.
    """
    found = read_mapping(path, remedy="make the page again")
    names = [found.get(name) for name in ("study", "model", "baseline")]
    questions = found.get("questions")
    if not all(isinstance(name, str) for name in names) or not isinstance(questions, dict):
        raise UserError(f"{path} is no key of a page of suite preference; make the page again")
    kinds, first = {}, {}
    for name, question in questions.items():
        fields = question if isinstance(question, dict) else {}
        kind, shown = fields.get("kind"), fields.get("first")
        if kind not in KINDS or shown not in ("model", "baseline"):
            raise UserError(f"{path}: question {name!r} is malformed; make the page again")
        kinds[name], first[name] = kind, shown == "model"
    return Key(*names, kinds, first)


def read_answers(paths: Sequence[Path], key: Key) -> list[Answer]:
    """Reads the files of all raters.

    Raises:
        UserError: a file is missing or malformed, belongs to another page, has no answer, or is of
            a rater whose file was read already.
    """
    answers, raters = [], {}
    for path in paths:
        found = read_mapping(path, remedy=AGAIN)
        study, rater, given = (found.get(name) for name in ("study", "rater", "answers"))
        if not (isinstance(study, str) and isinstance(rater, str) and isinstance(given, dict)):
            raise UserError(f"{path} is no file of answers; {AGAIN}")
        if study != key.study:
            raise UserError(f"{path} answers another page ({study[:16]!r}, not {key.study!r})")
        if rater in raters:
            raise UserError(f"{path} and {raters[rater]} are of one rater; pass the later one")
        if not given:
            raise UserError(f"{path} has no answer yet; {AGAIN}")
        raters[rater] = path
        answers += [_answer(path, key, name, choice) for name, choice in given.items()]
    return answers


def _answer(path: Path, key: Key, name: str, choice: object) -> Answer:
    if name not in key.kinds:
        raise UserError(f"{path} answers a question {name[:40]!r} that the page does not ask")
    if choice not in CHOICES:
        raise UserError(
            f"{path}: the answer to question {name} is none of {', '.join(CHOICES)}; {AGAIN}"
        )
    if choice == "not sure":
        return Answer(name, key.kinds[name], EVEN)
    return Answer(name, key.kinds[name], float((choice == "first") == key.first[name]))


def win_rates(answers: Sequence[Answer], reference: str) -> dict[str, Metric]:
    """Returns for each kind the share that prefers the model, and the share of "not sure".

    Args:
        reference: name of the baseline.
    """
    results = {}
    for kind in KINDS:
        own = [answer for answer in answers if answer.kind == kind]
        if not own:
            continue
        scores = np.array([answer.score for answer in own])
        questions = np.array([answer.question for answer in own])
        low, high = normal_interval(scores, questions)
        win = Metric(float(scores.mean()), low, high, len(own), EVEN, RECIPE, reference)
        unsure = (scores == EVEN).astype(np.float64)
        results |= {kind: win}
        low, high = normal_interval(unsure, questions)
        results[f"{kind}/not_sure"] = Metric(float(unsure.mean()), low, high, len(own))
    return results


def normal_interval(
    scores: Float[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"]
) -> tuple[float, float]:
    """Returns the normal 95% interval of a mean, within 0 … 1.

    Answers to one question are not independent, so that their deviations are added before they are
    squared: var = sum_g (sum_(i in g) (s_i - mean))^2 / n^2. With an answer a group and scores of 0
    and 1 that is p (1 - p) / n.
    """
    mean = float(scores.mean())
    _, member = np.unique(groups, return_inverse=True)
    deviations = np.bincount(member, weights=scores - mean)
    margin = NORMAL * math.sqrt(float(np.square(deviations).sum())) / len(scores)
    return max(0.0, mean - margin), min(1.0, mean + margin)


def table(key: Key, raters: int, results: Mapping[str, Metric]) -> str:
    """Returns the win rates as Markdown, in the form of the paper's table 1."""
    cells = []
    for kind in KINDS:
        metric = results.get(kind)
        if metric is None or metric.low is None or metric.high is None:
            cells.append("–")
        else:
            margin = max(metric.high - metric.value, metric.value - metric.low)
            cells.append(f"{100.0 * metric.value:.1f}% ± {100.0 * margin:.1f}%")
    people = f"{raters} rater{'s' if raters != 1 else ''}"
    return "\n".join(
        [
            f"How often {key.model} is preferred to {key.baseline} ({people}):",
            "",
            "| model | photorealism | caption | diversity |",
            "|---|---|---|---|",
            f"| {key.model} | {' | '.join(cells)} |",
            "",
        ]
    )


def rate(out: Path, files: Sequence[Path]) -> tuple[dict[str, Metric], str, dict[str, Any]]:
    """Reads the answers to the page in `out`.

    Returns:
        The metrics, the table, and what the report records beside the settings.
    """
    key = read_key(find_key(out, files))
    results = win_rates(read_answers(files, key), key.baseline)
    facts = {"model": key.model, "baseline": key.baseline, "study": key.study, "raters": len(files)}
    return results, table(key, len(files), results), facts
