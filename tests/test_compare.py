"""The comparison with a model of the reader's own: bad input, the files, the search, the command.

The models are real, in processes of their own. The servers are fakes whose truth is known; the real
ones are started by notebook 15.
"""

import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from fake_load import FakeLoad, rows
from wait import runs, wait_until

from helpers import own_comparison, own_files, own_model, own_servers, pace
from helpers.kills import Kills
from helpers.own_comparison import OwnComparison
from helpers.own_files import Setting, settings, write_mlserver, write_ray_serve
from helpers.own_model import BadInput, OwnModel, same
from helpers.own_report import main, write_report
from tools.notebooks import ROOT

GOOD = """\
import threading
import time

print("imported")


class Upper:
    def load(self):
        print("loaded")
        threading.Thread(target=time.sleep, args=[1000]).start()

    def predict(self, texts):
        return [text.upper() for text in texts]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a good model and its request; a model is asked for a moment only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pace, "seconds", lambda full: 0.01)
    (tmp_path / "my_model.py").write_text(GOOD)
    (tmp_path / "request.json").write_text('"hello"')
    return tmp_path


# --- the model by itself ---


def test_a_good_model_is_asked_whatever_it_prints_and_leaves_running() -> None:
    model = own_model.own_model("my_model.py:Upper", Path("request.json"), "200")
    assert (model.answer, model.request, model.latency) == ("HELLO", "hello", 200)
    assert model.name == "Upper" and model.file == Path("my_model.py").absolute()
    assert list(model.batches["list of"]) == [1, 8, 32]
    assert (model.batches[["ms", "requests/s"]] > 0).all(axis=None) and model.load >= 0


def test_a_model_may_take_its_time_but_not_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = GOOD.replace('print("loaded")', "time.sleep(1)")
    (folder / "slow.py").write_text(slow)
    assert own_model.own_model("slow.py:Upper", "hello", 200).answer == "HELLO"
    monkeypatch.setattr(own_model, "PATIENCE", 0.7)
    with pytest.raises(BadInput, match="Upper loads and answers by itself: not within 0.7 s"):
        own_model.own_model("slow.py:Upper", "hello", 200)


def test_what_a_model_has_started_holds_nobody_up_and_ends_with_it(folder: Path) -> None:
    starts = 'open("child", "w").write(str(subprocess.Popen(["sleep", "1000"]).pid))'
    text = GOOD.replace("import threading", "import subprocess, threading")
    (folder / "starts.py").write_text(text.replace('print("loaded")', starts))
    assert own_model.own_model("starts.py:Upper", "hello", 200).answer == "HELLO"
    child = int((folder / "child").read_text())
    assert wait_until(lambda: not runs(child))


MODEL = """\
{imports}
class Model:
    def load(self):
        {load}

    def predict(self, requests):
        {predict}
"""


@pytest.mark.parametrize(
    "parts, complaint",
    [
        ({"predict": "return requests[1:]"}, r"got a list of 1 and returned 0: it must return one"),
        ({"predict": "return requests[:2]"}, r"got a list of 3 and returned 2"),
        ({"predict": "return tuple(requests)"}, "must return a list, .* returned a tuple"),
        ({"predict": "return None"}, "returned a NoneType"),
        ({"predict": "return requests[7]"}, r"with a list of 1 fails in line 7 of wrong.py"),
        ({"predict": "return [{1} for _ in requests]"}, r"fails: TypeError: .* array.tolist\(\)"),
        ({"predict": "return [float('nan') for _ in requests]"}, "fails: ValueError: .* JSON"),
        (
            {"imports": "import random", "predict": "return [random.random() for _ in requests]"},
            "answers the same request now with .* fixed seed",
        ),
        ({"predict": "return [len(requests) for _ in requests]"}, "not depend on its neighbours"),
        (
            {"load": "raise OSError('no such disk')"},
            r"Model.load\(\) fails in line 4 of wrong.py: "
            "OSError: no such disk",
        ),
        ({"load": "open('weights.bin')"}, r"FileNotFoundError: .* Path\(__file__\).with_name"),
        ({"load": "raise SystemExit(3)"}, r"load\(\) fails in line 4 of wrong.py: SystemExit: 3"),
        ({"imports": "import os", "load": "os._exit(3)"}, r"ends its process \(exit status 3\)"),
        ({"imports": "import nowhere"}, "import wrong fails in line 1 of wrong.py: ModuleNotFound"),
        ({"imports": "def ("}, "import wrong fails: SyntaxError: .*wrong.py, line 1"),
        ({"imports": "class Other: ...", "name": "Otter"}, "no class 'Otter'. .* Other, Model"),
        ({"imports": "class Other: ...", "name": "Other"}, r"has no method load\(\): give"),
        (
            {"imports": "class Other:\n    async def load(self): ...", "name": "Other"},
            r"Write Other.load\(\) as `def load\(self\)`, without async",
        ),
    ],
)
def test_a_model_that_cannot_be_served_gets_a_sentence(
    parts: dict[str, str], complaint: str
) -> None:
    name = parts.pop("name", "Model")
    body = {"imports": "", "load": "pass", "predict": "return requests", **parts}
    Path("wrong.py").write_text(MODEL.format(**body))
    with pytest.raises(BadInput, match=complaint):
        own_model.own_model(f"wrong.py:{name}", "hello", 200)


@pytest.mark.parametrize(
    "model, complaint",
    [
        ("my_model", "'my_model' names no class: write FILE:CLASS"),
        ("my_model:Upper", "names no class"),
        ("nowhere.py:Upper", "There is no file nowhere.py"),
        ("my-model.py:Upper", "Python cannot import my-model.py"),
    ],
)
def test_a_model_that_is_not_there_gets_a_sentence(model: str, complaint: str) -> None:
    Path("my-model.py").touch()
    with pytest.raises(BadInput, match=complaint):
        own_model.own_model(model, "hello", 200)


@pytest.mark.parametrize(
    "content, complaint",
    [("hello", "not JSON: .* double quotes"), ("[1,]", "not JSON"), ("null", "empty"), ("", "not")],
)
def test_a_request_that_is_none_gets_a_sentence(content: str, complaint: str) -> None:
    Path("request.json").write_text(content)
    with pytest.raises(BadInput, match=complaint):
        own_model.own_model("my_model.py:Upper", Path("request.json"), 200)
    with pytest.raises(BadInput, match="There is no file other.json"):
        own_model.own_model("my_model.py:Upper", Path("other.json"), 200)
    with pytest.raises(BadInput, match="cannot be sent as JSON"):
        own_model.own_model("my_model.py:Upper", {1, 2}, 200)


@pytest.mark.parametrize("latency", ["fast", "200 ms", 0, "-1", math.nan, "inf", None])
def test_a_latency_that_is_no_number_gets_a_sentence(latency: object) -> None:
    with pytest.raises(BadInput, match="The latency must be a number above 0 of milliseconds"):
        own_model.own_model("my_model.py:Upper", "hello", latency)


def test_answers_may_differ_by_what_a_batch_does_to_the_last_digits() -> None:
    assert same({"a": [1.0, "x"]}, {"a": [1.00001, "x"]})
    assert same(1.0, 1) and same([], []) and same(None, None)
    for one, other in [(1.0, 1.1), ([1], [1, 1]), ({"a": 1}, {"b": 1}), ("a", "b"), (1.0, "1.0")]:
        assert not same(one, other)


# --- the files ---


@pytest.fixture
def model(folder: Path) -> OwnModel:
    batches = pd.DataFrame({"list of": [1, 8, 32], "ms": [5.0, 9.0, 60.0]})
    batches["requests/s"] = [20.0, 100.0, 200.0]
    return OwnModel(folder / "my_model.py", "Upper", "hello", 200, "HELLO", 0.1, batches)


@pytest.mark.parametrize(
    "cores, splits", [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (64, [(1, 64), (8, 8)])]
)
def test_the_grid_is_small_and_shares_all_cores(
    cores: int, splits: list[tuple[int, int]], model: OwnModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_files, "CORES", cores)
    batches = [
        (1, 0),
        (32, 0.01),
        (32, 0.05),
        (8, 0.01),
    ]  # a quarter of 200 ms; as quick as is usual
    assert settings(model) == [Setting(*split, *batch) for batch in batches for split in splits]


def test_the_programs_name_the_readers_class(model: OwnModel, folder: Path) -> None:
    write_mlserver(model, folder, None)
    write_ray_serve(model, folder, None)
    for file in ("mlserver_runtime.py", "ray_serve_app.py"):
        text = (folder / file).read_text()
        ast.parse(text)
        assert "import my_model " in text and "my_model.Upper()" in text and "MyModel" not in text


def test_what_is_tuned_stands_in_the_settings(model: OwnModel, folder: Path) -> None:
    def read(file: str) -> Any:
        return json.loads((folder / file).read_text())

    assert write_mlserver(model, folder, None) == "mlserver_as_it_comes"
    plain = {"name": "model", "implementation": "mlserver_runtime.Runtime"}
    assert read("mlserver_as_it_comes/model/model-settings.json") == plain
    assert not (folder / "mlserver_as_it_comes" / "settings.json").exists()

    assert write_mlserver(model, folder, Setting(2, 1, 8, 0.01), release=2) == "mlserver_tuned"
    more = {"max_batch_size": 8, "max_batch_time": 0.01, "parameters": {"extra": {"release": 2}}}
    assert read("mlserver_tuned/model/model-settings.json") == {**plain, **more}
    assert read("mlserver_tuned/settings.json")["parallel_workers"] == 2
    write_mlserver(model, folder, Setting(1, 2, 1))
    assert read("mlserver_tuned/model/model-settings.json") == plain
    assert read("mlserver_tuned/settings.json")["parallel_workers"] == 0

    file = folder / write_ray_serve(model, folder, None)
    [app] = yaml.safe_load(file.read_text())["applications"]
    assert app == {"name": "model", "route_prefix": "/", "import_path": "ray_serve_app:app"}
    file = folder / write_ray_serve(model, folder, Setting(2, 1, 8, 0.01), release=2)
    [app] = yaml.safe_load(file.read_text())["applications"]
    assert app["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": "1", "RELEASE": "2"}
    [served] = app["deployments"]
    assert served["num_replicas"] == 2 and served["max_ongoing_requests"] > 32
    assert served["user_config"] == {"max_batch_size": 8, "batch_wait_timeout_s": 0.01}
    for setting in settings(model):
        for write in (write_mlserver, write_ray_serve):
            write(model, folder, setting)


def test_a_batch_waits_for_a_small_part_of_what_is_good_enough(model: OwnModel) -> None:
    hurried = OwnModel(**{**vars(model), "latency": 20})
    assert {setting.wait for setting in settings(hurried)} == {0, 0.005}


def test_both_servers_are_asked_for_the_same(model: OwnModel, folder: Path) -> None:
    mlserver, ray_serve = (
        kind(model, folder) for kind in (own_servers.MLServerSide, own_servers.RayServeSide)
    )
    for side in (mlserver, ray_serve):
        with pytest.raises(RuntimeError, match=f"{side.title} is not running"):
            side.ask()
        side.server = SimpleNamespace(url="http://fake")  # type: ignore[assignment]
    [tensor] = mlserver.request["json"]["inputs"]
    assert json.loads(tensor["data"][0]) == ray_serve.request["json"] == "hello"
    assert mlserver.read({"outputs": [{"data": ['"HELLO"']}]}) == ray_serve.read("HELLO") == "HELLO"
    model.check("MLServer", "HELLO")
    with pytest.raises(RuntimeError, match='MLServer answers "HOLA", Upper by itself "HELLO"'):
        model.check("MLServer", "HOLA")
    assert mlserver.process == "spawn_main"
    mlserver.setting = Setting(1, 2, 8)
    assert mlserver.process == "mlserver start"  # it has no worker


# --- the comparison, with fake servers ---


class World:
    """What the fakes do: how many answers/s a side gives with a setting, and what went wrong."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sides: dict[str, Any] = {}
        self.log: list[tuple[str, Any]] = []
        self.broken: dict[Any, BaseException] = {}

    def monotonic(self) -> float:
        return self.now

    def rate(self, title: str) -> int:
        setting = self.sides[title].setting
        rate = 10 if setting is None else 10 * setting.processes + setting.batch
        return rate * (2 if title == "MLServer" else 1)

    def load(self, url: str, json: object, **options: Any) -> FakeLoad:
        assert json == "hello"
        self.now += 2
        can = self.rate(url)
        if options.get("arrivals") == "constant":
            rate, setting = options["rate"], self.sides[url].setting
            took = 500 if rate > can else 20 / setting.processes if setting else 20
            return FakeLoad(lambda: rows(math.ceil(5 * rate), took))
        return FakeLoad(lambda: rows(can, 20))

    def side(self, title: str) -> Any:
        world = self

        class FakeSide:
            server: Any = None
            setting: Any = None
            process = "spawn_main"
            request = {"url": title, "json": "hello"}

            def __init__(self, model: OwnModel, folder: Path) -> None:
                self.title = title
                world.sides[title] = self

            def start(self, setting: Any) -> None:
                world.log.append((f"{title} starts", setting))
                world.now += 10
                self.setting = setting
                if error := world.broken.get((title, setting)):
                    raise error
                self.server = self.running = SimpleNamespace(
                    processes=lambda: pd.DataFrame({"memory (MB)": [100.0, 20.0]})
                )

            def use(self, setting: Any) -> None:
                world.log.append((f"{title} uses", setting))
                self.setting = setting
                if error := world.broken.get((title, setting)):
                    raise error

            def ask(self) -> None: ...
            def prepare(self) -> None: ...
            def update(self) -> None: ...
            def target(self) -> str:
                return title

            def stop(self) -> None:
                self.server = None

        return FakeSide


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(own_files, "CORES", 2)
    monkeypatch.setattr(own_comparison, "MLServerSide", world.side("MLServer"))
    monkeypatch.setattr(own_comparison, "RayServeSide", world.side("Ray Serve"))
    monkeypatch.setattr(own_comparison, "load", world.load)
    monkeypatch.setattr(own_comparison, "time", world)

    def change_under_load(asked: Any, steps: Any) -> pd.DataFrame:
        assert asked["model"]["rate"] > 0 and list(steps) == ["update"]
        table = rows(4, 70, step=["before", "update", "update", "update"], took=[0, 3, 3, 3])
        return table.assign(error=["HTTP 500", "", "", "timeout"])

    def kill_under_load(target: str, **options: Any) -> Kills:
        never = target == "MLServer"
        numbers = {"failed": 3, "longest wait (s)": 1.5}
        back = math.nan if never else 2.5
        return Kills(rows(1), pd.DataFrame({**numbers, "all are back after (s)": back}, [1]))

    monkeypatch.setattr(own_comparison, "change_under_load", change_under_load)
    monkeypatch.setattr(own_comparison, "kill_under_load", kill_under_load)
    return world


def numbers(table: pd.DataFrame) -> list[list[Any]]:
    return table[["MLServer", "Ray Serve"]].to_numpy().tolist()


def test_both_are_searched_with_the_same_settings_and_end_with_their_best(
    model: OwnModel, world: World
) -> None:
    comparison = OwnComparison(model, "servers")
    assert numbers(comparison.start_as_they_come()) == [[10, 10], [120, 120]]
    tried = comparison.search()
    for _, own in tried.groupby("server"):
        assert list(own["setting"]) == ["as it comes"] + ["tuned"] * 8
        as_tried = own[["processes", "threads", "batch", "wait (s)"]].iloc[1:]
        assert [Setting(*row) for row in as_tried.to_numpy().tolist()] == settings(model)
    best = Setting(2, 1, 32, 0.01)  # of those that are as good, the first
    assert comparison.best == dict.fromkeys(["MLServer", "Ray Serve"], best)
    assert world.log[-2:] == [(f"{title} starts", best) for title in comparison.best]
    assert tried.groupby("server")["in time/s"].max().tolist() == [80, 40]  # 104 and 52, halved


def test_the_search_ends_when_another_round_would_take_too_long(
    model: OwnModel, world: World
) -> None:
    comparison = OwnComparison(model, "servers", minutes=1.5)
    comparison.start_as_they_come()
    assert len(comparison.search()) == 2 + 2 * 5  # 28 s with the starts, then 8 s a round
    assert len(OwnComparison(model, "servers", minutes=0.01).search()) == 2  # one round in any case


def test_a_setting_with_which_the_model_does_not_run_is_not_the_best(
    model: OwnModel, world: World
) -> None:
    world.broken["MLServer", Setting(2, 1, 32, 0.01)] = RuntimeError("out of memory\nand a log")
    comparison = OwnComparison(model, "servers")
    tried = comparison.search()
    assert comparison.best["MLServer"] == Setting(2, 1, 32, 0.05)
    assert comparison.best["Ray Serve"] == Setting(2, 1, 32, 0.01)
    assert list(tried["error"].dropna()) == ["out of memory"]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_error_stops_both(model: OwnModel, world: World, error: Any) -> None:
    world.broken["Ray Serve", None] = error
    comparison = OwnComparison(model, "servers")
    with pytest.raises(type(error)):
        comparison.start_as_they_come()
    assert not any(side.server for side in comparison.sides)


def test_the_scorecard_has_all_and_says_no_more_than_it_may(model: OwnModel, world: World) -> None:
    comparison = OwnComparison(model, "servers")
    comparison.start_as_they_come()
    comparison.compare()
    comparison.search()
    comparison.compare()
    capacity = comparison.capacity()
    [[mlserver, ray_serve]] = numbers(capacity)
    assert 104 / 1.25 < mlserver <= 104 and 52 / 1.25 < ray_serve <= 52
    assert numbers(comparison.update()) == [[1, 1], [70, 70], [3, 3]]
    assert numbers(comparison.kill()) == [[3, 3], [1.5, 1.5], ["not within 20", 2.5]]
    card = comparison.scorecard.set_index(["", "setting"])
    assert card.loc[("requests/s, 8 users", "tuned"), "compared"] == (
        "requests/s: MLServer, tuned 2.0 to 2.0 times Ray Serve, tuned"
    )
    assert card.loc[("p50 (ms), 1 user", "as it comes"), "compared"].startswith("p50: no differ")
    single = card[~card.index.get_level_values(0).str.contains("user")]
    assert set(single["compared"]) == {"one run each"}
    assert not card.index.has_duplicates


def test_a_failed_request_stands_beside_what_the_pairs_say() -> None:
    runs = pd.concat(
        rows(300).assign(target=name, pair=pair) for pair in range(1, 6) for name in ("A", "B")
    )
    assert own_comparison._sentence(runs, "p50").endswith("5 pairs)")
    runs["error"] = ["HTTP 500", *[""] * 2999]
    assert own_comparison._sentence(runs, "p50").endswith("; 1 of 3000 failed")
    assert "has no p50" in own_comparison._sentence(runs.assign(error="timeout"), "p50")


def test_the_kill_says_when_it_was_the_server_itself(
    model: OwnModel, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = OwnComparison(model, "servers")
    comparison.search()
    monkeypatch.setattr(comparison.sides[0], "process", "mlserver start")
    assert set(comparison.kill()["compared"]) == {
        "one run each; of MLServer the server itself was killed"
    }


def test_a_folder_that_holds_something_else_is_left_alone(model: OwnModel, folder: Path) -> None:
    for name in (".", "mine"):
        (folder / "mine").mkdir(exist_ok=True)
        (folder / "mine" / "thesis.txt").touch()
        with pytest.raises(BadInput, match="holds other files"):
            OwnComparison(model, name)
    assert (folder / "mine" / "thesis.txt").exists() and model.file.exists()
    (folder / "mlserver_runtime.py").touch()  # as if it were an earlier comparison
    with pytest.raises(BadInput, match="holds other files"):
        OwnComparison(model, folder)


# --- the report and the command line ---

COMMAND = ["my_model.py:Upper", "--request", "request.json", "--latency-ms", "200"]


def test_the_command_leaves_a_folder_and_a_page(
    world: World, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 0
    out = capsys.readouterr().out
    assert "[8/8] tuned: a kill under load" in out and "not within 20" in out
    assert not any(side.server for side in world.sides.values())
    files = {str(p.relative_to(folder / "comparison")) for p in folder.glob("comparison/**/*.*")}
    assert files == {
        "README.md",
        "mlserver_as_it_comes/model/model-settings.json",
        "mlserver_runtime.py",
        "mlserver_tuned/model/model-settings.json",
        "mlserver_tuned/settings.json",
        "my_model.py",
        "ray_serve_app.py",
        "ray_serve_as_it_comes.yaml",
        "ray_serve_tuned.yaml",
        "report.html",
        "scorecard.csv",
    }
    page = (folder / "comparison" / "report.html").read_text()
    assert page.count("<table") == 3 and "OMP_NUM_THREADS=1 mlserver start" in page
    assert "quick pace" not in page and "=3 serve run ray_serve_tuned.yaml" in page
    assert len(pd.read_csv(folder / "comparison" / "scorecard.csv")) == 16
    assert "RELEASE" not in (folder / "comparison" / "ray_serve_tuned.yaml").read_text()
    assert main(COMMAND) == 0  # in place of the earlier one


def test_a_class_in_the_page_is_no_html(model: OwnModel, world: World) -> None:
    comparison = OwnComparison(OwnModel(**{**vars(model), "name": "A<b>"}), "servers")
    comparison.search()
    assert "A&lt;b&gt;" in write_report(comparison).read_text()


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({0: "my_model.py:Lower"}, "no class 'Lower'"),
        ({2: "nowhere.json"}, "There is no file nowhere.json"),
        ({4: "fast"}, "--latency-ms must be a number above 0 of milliseconds"),
        ({5: "--minutes", 6: "-1"}, "--minutes must be a number"),
        ({5: "--folder", 6: "."}, "holds other files"),
    ],
)
def test_bad_input_is_status_2_and_starts_nothing(
    change: dict[int, str], complaint: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    command = list({**dict(enumerate(COMMAND)), **change}.values())
    assert main(command) == 2
    assert complaint in capsys.readouterr().err
    assert not world.log


@pytest.mark.parametrize(
    "error, status, said",
    [(RuntimeError("it died"), 1, "it died"), (KeyboardInterrupt(), 130, "Interrupted")],
)
def test_what_goes_wrong_later_has_another_status_and_stops_both(
    error: BaseException, status: int, said: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.broken["Ray Serve", None] = error
    assert main(COMMAND) == status
    assert said in capsys.readouterr().err
    assert not any(side.server for side in world.sides.values())


def test_the_command_and_the_function_of_the_same_name_do_not_meet() -> None:
    """A module that is imported takes the place of what its package has under its name."""
    files = [*ROOT.glob("helpers/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "from helpers.compare import" not in text and "import helpers.compare" not in text
    command = [sys.executable, "-m", "helpers.compare", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--latency-ms" in done.stdout
