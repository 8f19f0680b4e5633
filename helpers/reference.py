"""What a model answers without any server: the truth that a served answer is compared with."""

import json
import os
import subprocess
from functools import cache
from typing import Any

from helpers import models
from helpers.environment import environment
from helpers.interpreter import server_python


def reference(text: str, role: str = "translator", **generate_kwargs: Any) -> str:
    """What the model answers without any server: a plain pipeline in a process of its own.

    Parameters
    ----------
    text : str
        The sentence, paragraph or prompt.
    role : {"translator", "summarizer", "generator"}
        Which model, and with it which pipeline.
    **generate_kwargs
        For the call, such as ``max_length=15``; the rest is as the model's configuration says.

    Returns
    -------
    str
        The answer. It is computed once; asked again, it comes from memory.

    Raises
    ------
    RuntimeError
        If the pipeline fails; with the end of what it wrote to stderr.

    Examples
    --------
    >>> reference("The weather is nice today.")  # doctest: +SKIP
    "Le temps est beau aujourd'hui."
    """
    return _answer(role, models.locate(role)[0], text, json.dumps(generate_kwargs, sort_keys=True))


_PIPELINE = """
import json, sys
from transformers import pipeline
tasks = {"translator": "translation_en_to_fr", "summarizer": "summarization",
         "generator": "text-generation"}
role, model, text, options = json.load(sys.stdin)
[answer] = pipeline(tasks[role], model=model, torch_dtype="float32")(text, **json.loads(options))
[(_, text)] = answer.items()  # {"translation_text": "..."}
json.dump(text, sys.stdout)
"""


@cache
def _answer(role: str, model: str, text: str, options: str) -> str:
    done = subprocess.run(
        [server_python(), "-c", _PIPELINE],
        input=json.dumps([role, model, text, options]),
        env=os.environ | environment(),
        capture_output=True,
        text=True,
        check=False,  # because we say more than that it failed
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise RuntimeError(f"the {role} {model} failed (exit code {done.returncode}):\n{tail}")
    return str(json.loads(done.stdout.splitlines()[-1]))
