"""The page on which a person compares two models; it needs no server and fetches nothing.

Its content security policy allows what the file itself holds. Answers are kept in the browser's
local storage under the study's id and saved as a JSON file, which `preference_answers` reads.
"""

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unclip_jax.core import pages
from unclip_jax.core.errors import UserError
from unclip_jax.core.files import parse_json
from unclip_jax.data.images import decode, read_bytes

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
QUESTIONS = {
    "photorealism": "Which image looks more real, or better drawn?",
    "caption": "Which image fits the caption better?",
    "diversity": "Which set of images for the caption is more diverse?",
}
TITLE = "Which do you prefer?"
STUDY = '<script type="application/json" id="study">'
AGAIN = "make the page again"
STYLE = """
body { max-width: 960px; }
h2 { margin: 0.6rem 0 0; } h2:focus { outline: none; }
blockquote { margin: 0.3rem 0 0; font-size: 1.15rem; min-height: 1.7rem; overflow-wrap: anywhere; }
progress { width: 100%; height: 0.6rem; accent-color: var(--c0); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin: 0.8rem 0; }
button { font: inherit; color: var(--ink); background: var(--box); padding: 0.6rem 1rem;
  border: 2px solid var(--rule); border-radius: 8px; cursor: pointer; min-height: 44px; }
button:hover { border-color: var(--c0); } button:disabled { opacity: 0.45; cursor: default; }
button:focus-visible { outline: 3px solid var(--c0); outline-offset: 2px; }
button[aria-pressed="true"] { border-color: var(--c2); box-shadow: 0 0 0 2px var(--c2); }
.choice { padding: 0.6rem; display: flex; flex-direction: column; align-items: center;
  gap: 0.4rem; }
.choice img { width: 100%; max-width: 430px; height: auto; }
.row { display: flex; flex-wrap: wrap; gap: 0.6rem; }
kbd { font: 1em ui-monospace, monospace; color: var(--soft); }
[hidden] { display: none !important; }
@media (max-width: 640px) { body { margin: 0.8rem auto; } h1 { font-size: 1.3rem; }
  .pair { gap: 0.5rem; } .choice { padding: 0.3rem; } .keys, kbd { display: none; }
  .pair.sets { grid-template-columns: 1fr; } .row button { flex: 1 1 40%; } }
"""
BODY = """
<main>
<noscript><p>This page needs JavaScript. It fetches nothing and sends nothing.</p></noscript>
<p id="count" role="status"></p>
<progress id="bar" value="0" max="1" aria-label="Questions answered"></progress>
<section id="asking">
<h2 id="ask" tabindex="-1"></h2>
<blockquote id="caption"></blockquote>
<div class="pair" id="pair">
<button type="button" class="choice" id="first"><img alt="First"><span>First
<kbd>&larr;</kbd></span></button>
<button type="button" class="choice" id="second"><img alt="Second"><span>Second
<kbd>&rarr;</kbd></span></button>
</div>
<div class="row">
<button type="button" id="unsure">Not sure <kbd>&darr;</kbd></button>
<button type="button" id="back">Back <kbd>&uarr;</kbd></button>
<button type="button" id="save">Save answers</button>
</div>
<p class="keys">Keys: left and right arrow choose, down is not sure, up goes back.</p>
</section>
<section id="done" hidden>
<h2 id="thanks" tabindex="-1">That was the last question. Thank you.</h2>
<p>Save your answers and send the file to whoever asked you.</p>
<div class="row">
<button type="button" id="save-all">Save answers</button>
<button type="button" id="again">Look at the answers again</button>
<button type="button" id="restart">Forget all answers</button>
</div>
</section>
<p id="unkept" role="alert" hidden>This browser keeps no answers: save them before you leave.</p>
<p>Answers stay in this browser until you save them as a file. Nothing is sent.</p>
</main>
"""
SCRIPT = """
"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const study = JSON.parse(get("study").textContent);
  const total = study.questions.length;
  const slot = "unclip-preference-" + study.study;
  const sides = ["first", "second"];
  let state = load();
  let at = 0;

  function fresh() {
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    const rater = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    return { study: study.study, rater, answers: {} };
  }

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(slot));
      if (kept && kept.study === study.study && kept.rater && kept.answers) return kept;
    } catch (error) {
      get("unkept").hidden = false;
    }
    return fresh();
  }

  function keep() {
    try {
      localStorage.setItem(slot, JSON.stringify(state));
    } catch (error) {
      get("unkept").hidden = false;
    }
  }

  function firstOpen() {
    const open = study.questions.findIndex((q) => !(q.id in state.answers));
    return open < 0 ? total : open;
  }

  function show() {
    const answered = Object.keys(state.answers).length;
    const over = at >= total;
    get("bar").max = total;
    get("bar").value = answered;
    get("count").textContent = over
      ? `${answered} of ${total} answered`
      : `Question ${at + 1} of ${total}, ${answered} answered`;
    get("asking").hidden = over;
    get("done").hidden = !over;
    if (over) {
      get("thanks").focus();
      return;
    }
    const question = study.questions[at];
    const sets = question.kind === "diversity";
    get("ask").textContent = study.ask[question.kind];
    get("caption").textContent = question.caption && `“${question.caption}”`;
    get("caption").hidden = !question.caption;
    get("pair").classList.toggle("sets", sets);
    sides.forEach((side, i) => {
      const image = get(side).querySelector("img");
      image.src = study.images[question.images[i]];
      image.alt = `${i ? "Second" : "First"} ${sets ? "set of images" : "image"}`;
    });
    for (const [id, value] of [["first", "first"], ["second", "second"], ["unsure", "not sure"]])
      get(id).setAttribute("aria-pressed", String(state.answers[question.id] === value));
    get("back").disabled = at === 0;
    get("ask").focus();
  }

  function answer(value) {
    if (at >= total) return;
    state.answers[study.questions[at].id] = value;
    keep();
    at += 1;
    if (at === total) at = firstOpen();
    show();
  }

  function back() {
    if (at === 0) return;
    at -= 1;
    show();
  }

  function save() {
    const text = JSON.stringify(state, null, 1) + "\\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `preference_answers_${state.rater}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  const keys = {
    ArrowLeft: () => answer("first"),
    ArrowRight: () => answer("second"),
    ArrowDown: () => answer("not sure"),
    ArrowUp: back,
  };
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  get("first").addEventListener("click", () => answer("first"));
  get("second").addEventListener("click", () => answer("second"));
  get("unsure").addEventListener("click", () => answer("not sure"));
  get("back").addEventListener("click", back);
  get("save").addEventListener("click", save);
  get("save-all").addEventListener("click", save);
  get("again").addEventListener("click", () => { at = 0; show(); });
  get("restart").addEventListener("click", () => {
    if (!confirm("Forget all answers on this page?")) return;
    state = fresh();
    keep();
    at = 0;
    show();
  });
  keep();
  at = firstOpen();
  show();
})();
"""


def page_html(shown: Mapping[str, Any]) -> str:
    """Returns the page of a study.

    Args:
        shown: its id, its questions and its images, as `preference.Study` has them.
    """
    content = json.dumps({**shown, "ask": QUESTIONS}, ensure_ascii=True).replace("<", "\\u003c")
    parts = [
        BODY,
        f"{STUDY}{content}</script>",
        f"<script>{SCRIPT}</script>",
    ]
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
    return pages.page(TITLE, parts, head=f"{policy}<style>{STYLE}</style>")


Pair = tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]


def read_page(path: Path, study: str) -> dict[str, Pair]:
    """Reads a page's images back: of each question by its id, the first and the second.

    Raises:
        UserError: the file is missing, no such page, or the page of another study.
    """
    text = read_bytes(path).decode("utf-8", "replace")
    _, found, rest = text.partition(STUDY)
    if not found:
        raise UserError(f"{path} is no page of suite preference; {AGAIN}")
    shown = parse_json(rest.partition("</script>")[0], str(path), remedy=AGAIN)
    try:
        if shown["study"] != study:
            raise UserError(f"{path} is of another study than {study!r}; {AGAIN}")
        pictures = [_picture(uri) for uri in shown["images"]]
        return {
            str(question["id"]): (
                pictures[int(question["images"][0])],
                pictures[int(question["images"][1])],
            )
            for question in shown["questions"]
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged; {AGAIN}") from error


def _picture(uri: str) -> UInt8[np.ndarray, "h w 3"]:
    return decode(base64.b64decode(uri.partition(";base64,")[2], validate=True))
