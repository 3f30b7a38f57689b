"""What is read of scripts without running them."""

import pytest

from flows.core.checks.lost_failures import LostFailure, lost_failures, sets_pipefail
from flows.core.checks.script import MadeFiles, Script
from flows.core.checks.shell import read_commands
from flows.core.models import Command


def commands(text: str) -> list[tuple[list[str], str | None, bool]]:
    return [(each.words, each.cwd, each.is_certain) for each in read_commands(text, {"A": "x y"})]


def calls(text: str) -> list[tuple[Command, str, str | None, bool]]:
    found = Script(text, {}).oumi_calls()
    return [(call.command, call.config, call.cwd, call.is_certain) for call in found]


def test_a_subshell_gives_its_folder_and_variables_back() -> None:
    text = "(cd data && B=1 && ls)\nls $B; cd a; (cd b; pwd); pwd"
    assert commands(text) == [
        (["cd", "data"], "", True),
        (["ls"], "data", True),
        (["ls", "$B"], "", True),
        (["cd", "a"], "", True),
        (["cd", "b"], "a", True),
        (["pwd"], "a/b", True),
        (["pwd"], "a", True),
    ]


@pytest.mark.parametrize(
    "text",
    ["if [ -f a ]; then\n  RUN\nfi", "if a; then b; else RUN; fi", "while a; do RUN; done",
     "[ -f a ] && RUN", "a || RUN", "RUN || a", "case $1 in\n  a|b) RUN ;;\nesac",
     "case $1 in a) RUN;; esac", "if RUN; then a; fi", "f() {\n  RUN\n}", "until RUN; do a; done",
     "if a; then if b; then c; fi; RUN; fi"],
)  # fmt: skip
def test_what_may_be_left_out_is_not_certain(text: str) -> None:
    found = {" ".join(words): is_certain for words, _, is_certain in commands(text)}
    assert found["RUN"] is False


@pytest.mark.parametrize(
    "text",
    ["a && RUN", "if a; then b; fi; RUN", "for i in 1 2; do RUN; done", "{ RUN; }", "(RUN)",
     "a | RUN", "RUN &", "[ -f a ] || b\nRUN", "case $1 in a) b;; *) c;; esac\nRUN",
     "f() { a; }\nRUN", "a &&\n  RUN", "time RUN", "for i in 1; do a; done; RUN",
     "while a; do b; done\nRUN"],
)  # fmt: skip
def test_what_runs_in_any_case_is_certain(text: str) -> None:
    found = {" ".join(words): is_certain for words, _, is_certain in commands(text)}
    assert found["RUN"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [("a 2>&1 >/dev/null <in &>> all", ["a"]), ("a -n $A", ["a", "-n", "x", "y"]),
     ('a "$A" ${A}', ["a", "x y", "x", "y"]), ("a b#c # d", ["a", "b#c"]),
     ("a $(date +%s) b", ["a", "$", "b"]), ("a $((1 << 2)) b", ["a", "$((1 << 2))", "b"]),
     (r"a \# 'it is' \"", ["a", "#", "it is", '"']), ("B=$A a $A", ["a", "x", "y"]),
     ("a <<END b\nc\nEND", ["a", "b"]), ("a ${A:-b c}", ["a", "x", "y"]),
     ("a ${C:-b c}", ["a", "b", "c"]), ("a ${C%.y}", ["a", "${C%.y}"]),
     ("C=(b c)\na \"${C[@]}\"", ["a", "b", "c"]),
     ("C=(b\n  c\n)\na ${C[@]} d", ["a", "b", "c", "d"]),
     ("a {b,c}.d", ["a", "b.d", "c.d"]), ("a '{b,c}'", ["a", "{b,c}"]),
     ("cd b; a $PWD/c", ["a", "$PWD/b/c"]), ("a \"$(pwd)/c\" `pwd`", ["a", "$PWD/c", "$PWD"])],
)  # fmt: skip
def test_words_are_those_the_shell_would_make(text: str, words: list[str]) -> None:
    assert words in [found for found, _, _ in commands(text)]


def test_a_variable_that_is_set_on_a_condition_is_not_known() -> None:
    text = (
        "C=a\nif b; then C=c; fi\nrun $C\nD=1; D+=2; run $D; E=(1 2); run $E; for A in 1; do run $A"
    )
    last = [words[1] for words, _, _ in commands(text) if words[0] == "run"]
    assert last == ["$C", "$D", "$E", "1"]


@pytest.mark.parametrize(
    "text",
    ["oumi train -c a", "/opt/venv/bin/oumi train --config=a", "env A=b nohup oumi train -c a",
     "time oumi train -v -c a", "torchrun --nproc-per-node 2 -m oumi train -c a",
     "accelerate launch -m oumi train -c a", "python3 -u -m oumi train -c a",
     "oumi distributed torchrun -m oumi train -c a", "A=1 timeout 60 oumi train -c a",
     "sudo -E oumi train -c a", "srun --gpus 2 oumi train -c a > log 2>&1",
     "uv run oumi train -c a"],
)  # fmt: skip
def test_oumi_is_found_under_what_runs_it(text: str) -> None:
    assert calls(text) == [(Command.TRAIN, "a", "", True)]


@pytest.mark.parametrize(
    "text",
    ["echo oumi train -c a", "grep oumi train -c a", "pip install oumi", "# oumi train -c a",
     "python oumi train -c a", "uv pip install oumi train -c a", "cat <<E\noumi train -c a\nE",
     "echo 'x\noumi train -c a\n'", "ls oumi", "oumi env", "git clone oumi train -c a"],
)  # fmt: skip
def test_what_only_names_oumi_is_no_call(text: str) -> None:
    assert calls(text) == []


@pytest.mark.parametrize(
    ("text", "made"),
    [("mkdir -p logs && cd logs && touch a", MadeFiles(frozenset({"logs"}), frozenset({"logs/a"}))),
     ("oumi train -c a 2>&1 | tee x", MadeFiles(files=frozenset({"x"}))),
     ("sudo -E mkdir /data; chmod +x a; rm -f b", MadeFiles(frozenset({"/data"}))),
     ("sudo apt-get install -y git >/dev/null 2>&1", MadeFiles()),
     ("cp a b/c; ls > d", MadeFiles(files=frozenset({"b/c", "d"}))),
     ("ls > $LOG", MadeFiles(anything=True)), ("python make.py", MadeFiles(anything=True)),
     ("cd $HOME && ls > a", MadeFiles(files=frozenset({"~/a"}))), ("hf download a", MadeFiles()),
     ("hf download a --local-dir b", MadeFiles(files=frozenset({"b"}))),
     ("git clone https://a/b.git", MadeFiles(files=frozenset({"b"}))),
     ("git clone --depth 1 https://a/b c", MadeFiles(files=frozenset({"c"}))),
     ("wget https://a/b.yaml?x=1", MadeFiles(files=frozenset({"b.yaml"}))),
     ("wget -q -O c https://a/b; curl -L https://a/b -o d", MadeFiles(files=frozenset({"c", "d"}))),
     ("curl -fsSLO https://a/b; curl https://a/c", MadeFiles(files=frozenset({"b"}))),
     ("curl -fsSL https://a | bash", MadeFiles(anything=True)),
     ("aws s3 cp s3://a/b.yaml .", MadeFiles(files=frozenset({"b.yaml"}))),
     ("aws s3 sync s3://a .; gsutil cp out gs://a", MadeFiles(anything=True)),
     ("gsutil -m cp -r gs://a/b data/", MadeFiles(files=frozenset({"data"}))),
     ("oumi fetch oumi://configs/a.yaml -o b", MadeFiles(files=frozenset({"b/configs/a.yaml"}))),
     ("oumi fetch configs/a.yaml", MadeFiles(files=frozenset({"~/.oumi/fetch/configs/a.yaml"}))),
     ("{ a 1; ls; } > b", MadeFiles(files=frozenset({"b"}), anything=True)),
     ("{ ls; } > b", MadeFiles(files=frozenset({"b"}))),
     ("(ls) > b", MadeFiles(files=frozenset({"b"}))),
     ("for i in 1; do ls; done > b", MadeFiles(files=frozenset({"b"}))),
     ("if ls; then ls; fi >> b", MadeFiles(files=frozenset({"b"}))),
     ("exec > b 2>&1; ls", MadeFiles(files=frozenset({"b"}))),
     ("> b", MadeFiles(files=frozenset({"b"}))),
     ("pushd a; ls > b; popd; ls > c", MadeFiles(files=frozenset({"a/b", "c"}))),
     ("env -C a ls; env A=1 python make.py", MadeFiles(anything=True)),
     ("bash -c 'ls > a'", MadeFiles(files=frozenset({"a"}))),
     ("f() { ls > $1; }; f a; f b", MadeFiles(files=frozenset({"a", "b"}))),
     ("python -m pip install a; uv venv; uv pip install b", MadeFiles(files=frozenset({".venv"})))],
)  # fmt: skip
def test_what_a_script_makes_is_told(text: str, made: MadeFiles) -> None:
    assert Script(text, {}).made_files() == made


def test_an_unfinished_script_is_read_as_far_as_it_goes() -> None:
    for text in (
        "if",
        "(",
        ")",
        "fi",
        "a 'b",
        "case",
        "case x in",
        "$(",
        "a >",
        "<<",
        "f()",
        "}",
        "|",
        "a |",
        "(a |",
        "{ a | (",
        "done | a",
    ):
        read_commands(text, {})
        lost_failures(Script(text, {}))
    assert commands("a 'b\nc") == [(["a", "b"], "", True), (["c"], "", True)]


@pytest.mark.parametrize(
    "text",
    ["RUN | tee a", "RUN |\n tee a", "RUN | grep b | tee a", "{ RUN; } | tee a", "(RUN) | tee a",
     "(a; RUN && b) 2>&1 | tee c", "while a; do RUN; done | tee b", "if a; then RUN; fi | tee b",
     "case $1 in a) RUN;; esac | tee b", "f() { RUN | tee a; }", "RUN | tee a && b",
     "RUN | tee a; rc=$?", "A=$(RUN | tail -1)", 'A="$(RUN | tail -1)"',
     "if RUN | tee a; then b; fi",
     "RUN | tee a || { echo b; exit 1; }", "(set -o pipefail); RUN | tee a",
     "A=$(set -o pipefail); RUN | tee a", "set +eo pipefail; RUN | tee a", "a | { RUN | tee b; }",
     "env A=b bash -ec 'RUN | tee a'", "eval_it | a; RUN | tee a", "! RUN | tee a",
     "time RUN 2>&1 | tee a &", "(RUN; exit $?) | tee a", "{ RUN || exit 1; a; } | tee b"],
)  # fmt: skip
@pytest.mark.parametrize("run", ["oumi train -c a", "srun torchrun -m oumi train -c a"])
def test_a_command_whose_failure_is_hidden_is_found(text: str, run: str) -> None:
    found = lost_failures(Script(text.replace("RUN", run), {}))
    assert [lost.command for lost in found] == ["oumi train"]


@pytest.mark.parametrize(
    "text",
    ["RUN", "a | RUN", "RUN > a 2>&1; tail a | tee b", "set -o pipefail\nRUN | tee a",
     "set -eo pipefail; (RUN | tee a)", "set -e -o pipefail && A=$(RUN | tee b)",
     'set -o pipefail; A="$(RUN | tee b)"', "RUN | tee a || true", "(RUN | tee a) || :",
     "RUN | tee a; exit ${PIPESTATUS[0]}", "RUN | tee a\n\n  # now\n[ ${PIPESTATUS[0]} = 0 ]",
     "RUN | tee a || exit ${PIPESTATUS[0]}", "RUN | grep -q a", "RUN || a | tee b",
     "{ RUN; echo $? > rc; } | tee a; exit $(cat rc)", "(RUN; rc=$?; a $rc > b) | tee c",
     "RUN; a | tee b", "{ RUN; a | tee b; }", "(RUN)\na | tee b", "echo 'RUN | tee a'",
     "if a | tee b; then RUN; fi", "f() { set -o pipefail; RUN | tee a; }",
     "a <<E\nRUN | tee b\nE"],
)  # fmt: skip
def test_a_command_whose_failure_counts_is_not_found(text: str) -> None:
    assert lost_failures(Script(text.replace("RUN", "oumi train -c a"), {})) == []


def test_what_a_log_is_kept_of_counts_where_it_does_work() -> None:
    text = (
        "pip install a | tee b; pip list | tee b; python a.py | tee b; echo a | tee b; ls | tee b"
    )
    assert lost_failures(Script(text, {})) == [
        LostFailure("pip install", "tee"), LostFailure("python a.py", "tee")
    ]  # fmt: skip
    assert lost_failures(Script("python a.py | wc -l; oumi env | tee a", {})) == []


def test_it_is_known_whether_a_script_leaves_pipefail_set() -> None:
    for text, holds in (
        ("set -o pipefail", True), ("set -euo pipefail; a", True), ("a", False),
        ("set -o pipefail; set +o pipefail", False), ("(set -o pipefail)", False),
        ("shopt -s -o pipefail", True), ("shopt -uo pipefail", False),
        ("{ set -o pipefail; }", True),
    ):  # fmt: skip
        assert sets_pipefail(Script(text, {})) is holds, text
