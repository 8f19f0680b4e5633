"""What the comparison with a model of the reader's own leaves, and the command that makes it."""

import argparse
import html
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from helpers import pace
from helpers.display import show
from helpers.own_comparison import OwnComparison
from helpers.own_files import commands, write_mlserver, write_ray_serve
from helpers.own_model import BadInput, own_model, positive
from helpers.results import machine

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ padding: 0.2rem 0.8rem; border-bottom: 1px solid #ccc }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto }}
</style>
<h1>{title}</h1>
<p>{machine}.</p>
{body}
</html>
"""

READ_ME = """\
# {name} in MLServer and in Ray Serve

What was compared, and what to take away. `{file}` is a copy: whatever else it needs has to be
beside it, too.

{commands}
MLServer has its batches and workers in `mlserver_tuned`, its threads in the variable before the
command. Ray Serve has batches, replicas and threads in `ray_serve_tuned.yaml`; `haproxy` and
`socat` must be in its `PATH`, or leave `RAY_SERVE_ENABLE_HA_PROXY` out.

Ask MLServer at `/v2/models/model/infer`: each element of a tensor of BYTES is a request as JSON.
Ray Serve takes the request as it is, at `/`.

`scorecard.csv` and `report.html` have what came out.
"""


def write_report(comparison: OwnComparison) -> Path:
    """Leave in the folder what is there to be taken away, and a page with what came out.

    Parameters
    ----------
    comparison : OwnComparison
        With a search behind it; its servers are stopped.

    Returns
    -------
    Path
        Of the page. Beside it are the files of both servers, as they come and tuned, a copy of the
        model, a README with the commands, and the scorecard.
    """
    comparison.stop()
    model, folder = comparison.model, comparison.folder
    for pattern in ("*.log", ".*", "__pycache__"):  # what the servers have left
        for left in folder.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    for setting in (None, comparison.best["MLServer"]):
        write_mlserver(model, folder, setting)
    for setting in (None, comparison.best["Ray Serve"]):
        write_ray_serve(model, folder, setting)
    shutil.copy(model.file, folder)
    scorecard = comparison.scorecard
    scorecard.rename(columns={"": "question"}).to_csv(folder / "scorecard.csv", index=False)

    how = commands(comparison.best["MLServer"])
    listed = "".join(f"{name}:\n\n    {command}\n\n" for name, command in how.items())
    about = READ_ME.format(name=model.name, file=model.file.name, commands=listed)
    (folder / "README.md").write_text(about, encoding="utf-8")

    tables = {
        "What came out": scorecard,
        "What the search has tried": comparison.tried,
        "The model by itself": model.batches,
    }
    body = "\n".join(
        f"<h2>{title}</h2>\n{show(table)._repr_html_()}" for title, table in tables.items()
    )
    body += f"\n<h2>How to start them</h2>\n<pre>{html.escape(listed)}</pre>"
    title = html.escape(f"MLServer and Ray Serve with {model.name}")
    where = html.escape(machine()) + ("; in quick pace, so the numbers mean little" * pace.quick())
    page = folder / "report.html"
    page.write_text(_PAGE.format(title=title, machine=where, body=body), encoding="utf-8")
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process if not given.

    Returns
    -------
    int
        The exit status: 0 when both were compared, 1 when a server could not do it, 2 when the
        model, the request or a number has to be mended first, 130 when it was interrupted. In all
        cases no server is left running.
    """
    parser = argparse.ArgumentParser(
        prog="python -m helpers.compare",
        description="Compare MLServer and Ray Serve with a model of your own.",
        epilog="Exit status: 0 compared, 1 a server could not do it, 2 something to mend first.",
    )
    parser.add_argument("model", help="FILE:CLASS; the class has load() and predict(requests)")
    parser.add_argument("--request", required=True, help="a JSON file with an example of a request")
    parser.add_argument("--latency-ms", required=True, help="until when an answer is good enough")
    parser.add_argument("--minutes", default="5", help="for the search; the rest takes seven more")
    parser.add_argument("--folder", default="comparison", help="for the files and the report")
    chosen = parser.parse_args(arguments)
    comparison: OwnComparison | None = None
    try:
        minutes = positive("--minutes", chosen.minutes, "minutes, such as 5")
        print(f"{chosen.model}, without any server ...", flush=True)
        latency = positive("--latency-ms", chosen.latency_ms, "milliseconds, such as 200")
        model = own_model(chosen.model, Path(chosen.request), latency)
        print(show(model.batches), flush=True)
        comparison = OwnComparison(model, chosen.folder, minutes)
        run(comparison)
        page = write_report(comparison)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the servers are stopped.", file=sys.stderr)
        return 130
    finally:
        if comparison:
            comparison.stop()
    print(f"\n{show(comparison.scorecard)}\n\nThe report is {page}, and all else is beside it.")
    return 0


def run(comparison: OwnComparison) -> None:
    """Take all steps, and print what each has found.

    Parameters
    ----------
    comparison : OwnComparison
        Its servers run afterwards.
    """
    steps: list[tuple[str, Callable[[], pd.DataFrame]]] = [
        ("as they come: start", comparison.start_as_they_come),
        ("as they come: in turn", comparison.compare),
        ("as they come: capacity", comparison.capacity),
        ("tuned: search", comparison.search),
        ("tuned: in turn", comparison.compare),
        ("tuned: capacity", comparison.capacity),
        ("tuned: an update under load", comparison.update),
        ("tuned: a kill under load", comparison.kill),
    ]
    for number, (name, step) in enumerate(steps, start=1):
        begin = time.monotonic()
        print(f"\n[{number}/{len(steps)}] {name} ...", flush=True)
        print(show(step()))
        print(f"({time.monotonic() - begin:.0f} s)", flush=True)
