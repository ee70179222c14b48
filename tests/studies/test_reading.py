"""Studies as files: they say what the Python API says, and where they are wrong they say where."""

import sys
from pathlib import Path

import pytest

import llmperf_core as lp
from llmperf_core.errors import MissingExtraError, StudyFileError
from llmperf_core.workload import Cancelling, Workload

HEAD = 'targets = ["http://127.0.0.1:8080"]\nloads = [{ kind = "concurrency", slots = 1 }]\n'
WHOLE = """
repeats = 3

[[targets]]
url = "http://127.0.0.1:8080"
protocol = "openai-chat"
model = "llama"
api_key_env = "KEY"
headers = { x-trace = "1" }
body = { ignore_eos = true, seed = 7 }
stream = false
verify = "authorities.pem"
price_usd_per_h = 1.515
price_as_of = 2023-09-01
price_source = "the study"
labels = { model = "7b" }
called = "mine"

[[targets]]
url = "sim:llama-2-7b@ml.g5.2xlarge"

[[loads]]
kind = "concurrency"
slots = [1, 5]

[[loads]]
kind = "gamma"
rate_rps = [2, 4.5]
shape = 0.25

[[loads]]
kind = "ramp"
from_rps = 1
to_rps = 20
duration_s = 60
spread = "constant"

[[loads]]
kind = "steps"
steps = [[2, 30], [8, 30]]

[workload]
kind = "fixed"
text = "Write of llamas"
max_new_tokens = 50
unique = false

[slo]
ttft_ms = 500

[settings]
duration_s = 90
warmup_s = 0
seed = 7
deadlines = { first_token_s = 30 }
precision = { metric = "ttft", percentile = 50, relative = 0.1 }
"""
SAID = lp.Study(
    targets=[
        lp.StudyTarget(
            "http://127.0.0.1:8080",
            lp.Options(
                protocol="openai-chat",
                model="llama",
                api_key_env="KEY",
                headers={"x-trace": "1"},
                body={"ignore_eos": True, "seed": 7},
                stream=False,
                verify="authorities.pem",
            ),
            price=lp.Price(usd_per_h=1.515, as_of="2023-09-01", source="the study"),
            labels={"model": "7b"},
            called="mine",
        ),
        "sim:llama-2-7b@ml.g5.2xlarge",
    ],
    loads=[
        lp.Concurrency(1),
        lp.Concurrency(5),
        lp.Gamma(2, 0.25),
        lp.Gamma(4.5, 0.25),
        lp.Ramp(1, 20, duration_s=60, spread="constant"),
        lp.Steps([(2, 30), (8, 30)]),
    ],
    workload=lp.Fixed("Write of llamas", 50, unique=False),
    repeats=3,
    slo=lp.Slo(ttft_ms=500),
    settings=lp.Settings(
        duration_s=90,
        warmup_s=0,
        seed=7,
        deadlines=lp.Deadlines(first_token_s=30),
        precision=lp.Precision("ttft", 50, relative=0.1),
    ),
)


def written(folder: Path, text: str, name: str = "study.toml") -> Path:
    """Return a file that holds this text."""
    path = folder / name
    path.write_text(text)
    return path


def workload(folder: Path, text: str) -> Workload:
    """Return the workload that a file says."""
    return lp.read_study(written(folder, f"{HEAD}workload = {text}\n")).workload


def wrong(folder: Path, text: str, name: str = "study.toml") -> str:
    """Return what is said of a file that is wrong, after its name."""
    path = written(folder, text, name)
    with pytest.raises(StudyFileError) as raised:
        lp.read_study(path)
    assert raised.value.path == path
    return str(raised.value).removeprefix(f"{path}: ")


def test_a_file_says_what_python_says(tmp_path: Path) -> None:
    """By the same names, all of it."""
    assert lp.read_study(written(tmp_path, WHOLE)) == SAID


def test_yaml_says_the_same(tmp_path: Path) -> None:
    """With the extra `yaml`."""
    yaml = pytest.importorskip("yaml")
    import tomllib

    text = yaml.safe_dump(tomllib.loads(WHOLE))
    assert lp.read_study(written(tmp_path, text, "study.yaml")) == SAID


def test_all_that_has_a_default_may_be_left_out(tmp_path: Path) -> None:
    """A target and a load are a study."""
    assert lp.read_study(written(tmp_path, HEAD)) == lp.Study(
        targets=["http://127.0.0.1:8080"], loads=[lp.Concurrency(1)]
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"synthetic:normal(64,8)"', lp.Synthetic(lp.Normal(64, 8))),
        (
            '{ kind = "synthetic", input_tokens = "uniform(10,20)", output_tokens = 8 }',
            lp.Synthetic(lp.Uniform(10, 20), 8),
        ),
        (
            (
                '{ kind = "synthetic", prefix_share = 0.5, tokenizer = "server", '
                'input_tokens = { distribution = "lognormal", mean = 90, sd = 30, low = 8 } }'
            ),
            lp.Synthetic(lp.LogNormal(90, 30, low=8), prefix_share=0.5, tokenizer="server"),
        ),
        (
            '{ kind = "synthetic", input_tokens = { distribution = "in_order", values = [3, 4] } }',
            lp.Synthetic(lp.InOrder([3, 4])),
        ),
        (
            (
                '{ kind = "conversations", turns = 2, system = "Be brief.", '
                'questions = { kind = "fixed", text = "Why?" } }'
            ),
            lp.Conversations(lp.Fixed("Why?"), 2, system="Be brief."),
        ),
        (
            '{ kind = "cancelling", share = 0.5, after_s = 2, workload = "synthetic:16" }',
            Cancelling(lp.Synthetic(16), 0.5, after_s=2),
        ),
    ],
)
def test_every_workload_can_be_said(text: str, said: Workload, tmp_path: Path) -> None:
    """As a text of the command line, or by its kind and fields."""
    assert workload(tmp_path, text) == said


def test_files_are_looked_for_beside_the_study(tmp_path: Path) -> None:
    """Wherever the program runs: a study can be moved to another machine with its data."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Write of llamas", "max_tokens": 9}\n')
    (tmp_path / "arrivals.jsonl").write_text(
        '{"timestamp": 0, "input_length": 3, "output_length": 4}\n'
        '{"timestamp": 500, "input_length": 3, "output_length": 4}\n'
    )
    (tmp_path / "tokenizer.json").write_text("{}")
    asked = lp.read_dataset(tmp_path / "prompts.jsonl", output_tokens=5)
    short = lp.read_dataset(tmp_path / "prompts.jsonl", unique=False)
    trace = 'targets = ["http://a:1"]\nloads = [{ kind = "replay", file = "arrivals.jsonl"'
    text = f"{trace}, speed = 2.0, limit = 2 }}]\n"

    assert workload(tmp_path, '"dataset:prompts.jsonl"') == lp.read_dataset(
        tmp_path / "prompts.jsonl"
    )
    assert (
        workload(tmp_path, '{ kind = "dataset", file = "prompts.jsonl", output_tokens = 5 }')
        == asked
    )
    assert (
        workload(tmp_path, '{ kind = "dataset", file = "prompts.jsonl", unique = false }') == short
    )
    assert lp.read_study(written(tmp_path, text)).loads == (
        lp.read_trace(tmp_path / "arrivals.jsonl", speed=2, limit=2),
    )
    assert workload(
        tmp_path, '{ kind = "synthetic", tokenizer = "tokenizer.json" }'
    ) == lp.Synthetic(tokenizer=tmp_path / "tokenizer.json")


MATRIX = """
loads = [{ kind = "concurrency", slots = 1 }]

[matrix]
axes.model = ["llama-2-7b", "llama-2-13b"]
axes.instance = ["ml.g5.2xlarge", "ml.g5.12xlarge"]
exclude = [{ model = "llama-2-13b", instance = "ml.g5.2xlarge" }]
include = [{ model = "llama-2-70b", instance = "ml.p4d.24xlarge" }]
target = { url = "sim:{model}@{instance}", body = { adapter = ["{model}"], top_k = 1 } }

[[matrix.set]]
when = { instance = "ml.g5.2xlarge" }
price_usd_per_h = 1.515
price_as_of = "2023-09-01"
price_source = "the study"

[[matrix.set]]
when = { model = "llama-2-70b" }
url = "sim:{model}-gptq@{instance}"
"""


def test_a_matrix_is_its_targets(tmp_path: Path) -> None:
    """Each combination fills the template; what is set for some of them goes before it."""
    targets = lp.read_study(written(tmp_path, MATRIX)).targets

    assert [target.target for target in targets] == [
        "sim:llama-2-7b@ml.g5.2xlarge",
        "sim:llama-2-7b@ml.g5.12xlarge",
        "sim:llama-2-13b@ml.g5.12xlarge",
        "sim:llama-2-70b-gptq@ml.p4d.24xlarge",
    ]
    assert [target.price is not None for target in targets] == [True, False, False, False]
    assert targets[2].labels == {"model": "llama-2-13b", "instance": "ml.g5.12xlarge"}
    assert targets[2].options.body == {"adapter": ["llama-2-13b"], "top_k": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("targets = [", "it is no TOML: "),
        ("", "there is no target; say [[targets]] or [matrix]"),
        ('targets = ["http://a:1"]', "there is no load; say [[loads]]"),
        (HEAD + "repeat = 2", "repeat: there is no such key; did you mean 'repeats'?"),
        (HEAD + "xyz = 2", "xyz: there is no such key; there are targets, matrix, loads,"),
        (HEAD + "repeats = 'two'", "repeats: Expected `int`, got `str`"),
        (HEAD + "repeats = 0", "'repeats' must be >= 1: 0"),
        (HEAD + "slo = 500", "slo: a table is expected, not int 500"),
        (HEAD + "slo = { ttft = 500 }", "slo.ttft: there is no such key; did you mean 'ttft_ms'?"),
        (HEAD + "slo = { ttft_ms = -1 }", "slo: 'ttft_ms' must be > 0: -1"),
        (HEAD + "settings = { duration_s = 'x' }", "settings.duration_s: Expected `float | null`"),
        (HEAD + "settings = { folder = 'x' }", "settings.folder: this is said when the study is"),
        (HEAD + "settings = { deadlines = { gap = 1 } }", "settings.deadlines.gap: there is no"),
        (HEAD + "workload = 'poetry:9'", "workload: workload 'poetry:9' is none of fixed:TEXT"),
        (HEAD + "workload = 3", "workload: a table is expected"),
        (HEAD + "workload = { text = 'a' }", "workload: there is no 'kind'; it is one of fixed,"),
        (HEAD + "workload = { kind = 'os' }", "workload.kind: there is no 'os'; it is one of"),
        (HEAD + "workload = { kind = 'fixed' }", "workload: "),
        (HEAD + "workload = { kind = 'dataset' }", "workload: there is no 'file'"),
        (HEAD + "workload = 'dataset:none.jsonl'", "workload: dataset "),
        (
            HEAD + "workload = { kind = 'synthetic', input_tokens = 'long' }",
            "workload.input_tokens: length 'long' is neither",
        ),
        (
            HEAD + "workload = { kind = 'synthetic', input_tokens = 0 }",
            "workload: 'input_tokens' must be > 0: 0",
        ),
        (
            "targets = ['http://a:1']\nloads = [{ kind = 'concurrency', slots = [1, 'x'] }]",
            "loads[0].slots: Expected `int`, got `str`",
        ),
        ("targets = ['http://a:1']\nloads = { kind = 'poisson' }", "loads: a list is expected"),
        ("targets = ['http://a:1']\nloads = [{ kind = 'poison' }]", "loads[0].kind: there is no"),
        (
            "targets = ['http://a:1']\nloads = [{ kind = 'replay', file = 'none' }]",
            "loads[0]: trace ",
        ),
        (
            "targets = ['http://a:1', { url = 'http://b:1', protocl = 'tgi' }]",
            "targets[1].protocl: there is no such key; did you mean 'protocol'?",
        ),
        ("targets = [{ protocol = 'tgi' }]", "targets[0]: there is no 'url'"),
        ("targets = ['htp://a:1']", "targets[0]: target 'htp://a:1': no backend knows"),
        ("targets = [{ url = 'http://a:1', stream = 1 }]", "targets[0].stream: Expected `bool`"),
        (
            "targets = [{ url = 'http://a:1', price_usd_per_h = 1 }]",
            (
                "targets[0]: a price needs price_usd_per_h, price_as_of, price_source; "
                "there is no 'price_as_of'"
            ),
        ),
        ("[matrix]\naxes.a = ['x']", "matrix: there is no 'target'"),
        ("[matrix]\ntarget.url = 'http://a:1'", "matrix: there is no 'axes'"),
        ("[matrix]\ntarget.url = 'http://a:1'\naxes.a = []", "matrix: axis 'a' has no value"),
        (
            "[matrix]\ntarget.url = 'http://{b}:1'\naxes.a = ['x']",
            "matrix.target: 'http://{b}:1' may hold {a}; write {{ for a brace",
        ),
        (
            "[matrix]\ntarget.url = 'http://{a:9}:1'\naxes.a = ['x']",
            "matrix.target: 'http://{a:9}:1' may hold {a}",
        ),
        (
            "[matrix]\ntarget.url = 'http://{a'\naxes.a = ['x']",
            "matrix.target: ",
        ),
        (
            "[matrix]\ntarget.url = 'http://{a}:1'\naxes.a = ['x']\nexclude = [{ b = 'x' }]",
            "matrix: there is no axis 'b'; there are a",
        ),
        (
            "[matrix]\ntarget.url = 'http://{a}:1'\naxes.a = ['x']\nexclude = [{ a = 'y' }]",
            "matrix: 'exclude' fits nothing: 'a' is x, never 'y'",
        ),
        (
            (
                "[matrix]\ntarget.url = 'http://{a}:1'\naxes = { a = ['x'], b = ['y'] }\n"
                "include = [{ a = 'z' }]"
            ),
            "matrix: 'include' needs a value for b",
        ),
        (
            "[matrix]\ntarget.url = 'http://{a}:1'\naxes.a = ['x']\n[[matrix.set]]\nmodel = 'm'",
            "matrix.set[0]: there is no 'when'",
        ),
        (
            (
                "[matrix]\ntarget.url = 'http://{a}:1'\naxes.a = ['x']\n"
                "[[matrix.set]]\nwhen = { b = 'x' }"
            ),
            "matrix.set[0].when: there is no axis 'b'",
        ),
        (
            "targets = ['http://a:1', 'http://a:1']\nloads = [{ kind = 'poisson', rate_rps = 1 }]",
            "the study has the target 'http://a:1' twice",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, says: str, tmp_path: Path) -> None:
    """The file, the key, and what was expected: one line."""
    said = wrong(tmp_path, text)

    assert said.startswith(says)
    assert "\n" not in said


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    """Its name, and why."""
    with pytest.raises(StudyFileError, match=r"none\.toml: it cannot be read: No such file"):
        lp.read_study(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(StudyFileError, match="it is not UTF-8"):
        lp.read_study(tmp_path / "binary.toml")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """No study is."""
    path = tmp_path / "study.toml"
    with path.open("wb") as file:
        file.truncate(1 << 25)
    with pytest.raises(StudyFileError, match="it is larger than 16 MiB"):
        lp.read_study(path)


def test_yaml_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"llmperf-toolkit\[yaml\]"):
        lp.read_study(written(tmp_path, "a: 1", "study.yaml"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("targets: [", "it is no YAML: "),
        ("- a\n", "it is no table of keys"),
        ("targets: !!python/object/apply:os.system ['true']\n", "it is no YAML: "),
    ],
)
def test_yaml_that_is_wrong(text: str, says: str, tmp_path: Path) -> None:
    """And nothing of it is run."""
    pytest.importorskip("yaml")
    assert wrong(tmp_path, text, "study.yml").startswith(says)
