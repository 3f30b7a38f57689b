"""Ways in which a job's scripts name a config: each is followed, or named as not read."""

import textwrap
from pathlib import Path

import pytest
import yaml

from flows.core.checks.file_checks import check_files
from flows.core.checks.launch import read_launch
from flows.core.configs.reader import read_config
from flows.core.findings import Finding, FindingCode, Severity

_ROW = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
_TRAIN = """\
model: {model_name: ./model}
data: {train: {datasets: [{dataset_name: text_sft_jsonl, dataset_path: %s}]}}
training: {trainer_type: TRL_SFT, max_steps: 3, save_steps: 2}
"""

FOLLOWED = r"""
oumi train -c CONFIG
oumi train --config CONFIG
oumi train --config=CONFIG
oumi train -cCONFIG
oumi train -v --log-level INFO -c CONFIG
oumi train -c ./CONFIG
oumi train -c "CONFIG"
oumi train -c 'CONFIG'
oumi train -c $PWD/CONFIG
oumi train -c "${PWD}/CONFIG"
oumi train -c "$(pwd)/CONFIG"
oumi train -c `pwd`/CONFIG
oumi train -c {folder}/CONFIG
D={folder}; oumi train -c $D/CONFIG
C=CONFIG; oumi train -c $C
C=CONFIG && oumi train -c "$C"
export C=CONFIG; oumi train -c "${C}"
declare -r C=CONFIG\noumi train -c "${C}"
D=$PWD; cd sub; oumi train -c $D/CONFIG --training.output_dir $D/out; cd ..
command oumi train -c CONFIG
exec oumi train -c CONFIG
time oumi train -c CONFIG
time -p oumi train -c CONFIG
eval "oumi train -c CONFIG"
eval oumi train -c CONFIG
bash -c "oumi train -c CONFIG"
bash -lc 'set -e; oumi train -c CONFIG'
sh -ec 'oumi train -c CONFIG'
bash <<END\noumi train -c CONFIG\nEND
bash -s <<'END'\nset -e\noumi train -c CONFIG\nEND
bash <<< "oumi train -c CONFIG"
bash call.sh CONFIG
bash -eu call.sh CONFIG
sh ./call.sh CONFIG
source call.sh CONFIG
. ./call.sh CONFIG
./call.sh CONFIG
chmod +x call.sh && ./call.sh CONFIG
pushd sub; oumi train -c ../CONFIG; popd
pushd sub; popd; oumi train -c CONFIG
pushd sub >/dev/null && ls && popd >/dev/null && oumi train -c CONFIG
cd sub; cd ..; oumi train -c CONFIG
cd sub && cd - && oumi train -c CONFIG
cd sub && cd $OLDPWD && oumi train -c CONFIG
cd {folder} && oumi train -c CONFIG
cd "{folder}/sub"; oumi train -c {folder}/CONFIG
(cd sub && ls); oumi train -c CONFIG
cd sub || exit 1; cd ..; oumi train -c CONFIG
env -C sub ls; oumi train -c CONFIG
env -C {folder} oumi train -c CONFIG
env A=1 B=2 oumi train -c CONFIG
env -u A -i PATH=$PATH oumi train -c CONFIG
A=1 oumi train -c CONFIG
nohup oumi train -c CONFIG > log 2>&1 &
nice -n 5 oumi train -c CONFIG
ionice -c2 -n0 nice oumi train -c CONFIG
timeout 2h oumi train -c CONFIG
timeout -k 10 --signal TERM 60 oumi train -c CONFIG
timeout --kill-after 5 60 command oumi train -c CONFIG
stdbuf -oL oumi train -c CONFIG
setsid oumi train -c CONFIG
taskset -c 0-3 oumi train -c CONFIG
numactl --cpunodebind 0 --membind=0 oumi train -c CONFIG
flock lock oumi train -c CONFIG
sudo -E oumi train -c CONFIG
sudo -u me -- oumi train -c CONFIG
python -m oumi train -c CONFIG
python3 -u -m oumi train -c CONFIG
python -m oumi.cli.main train -c CONFIG
python $(which oumi) train -c CONFIG
$(which oumi) train -c CONFIG
/opt/venv/bin/oumi train -c CONFIG
torchrun --standalone --nproc-per-node 2 -m oumi train -c CONFIG
torchrun --nproc-per-node=2 $(which oumi) train -c CONFIG
accelerate launch -m oumi train -c CONFIG
deepspeed --module oumi train -c CONFIG
oumi distributed torchrun -m oumi train -c CONFIG
oumi distributed accelerate launch -m oumi train -c CONFIG
srun --gpus 2 oumi train -c CONFIG
srun bash -c "oumi train -c CONFIG"
mpirun -np 2 oumi train -c CONFIG
uv run oumi train -c CONFIG
uvx oumi train -c CONFIG
conda run -n env --no-capture-output oumi train -c CONFIG
poetry run oumi train -c CONFIG
oumi train \\n  -c CONFIG \\n  -v
if true; then\n  oumi train -c CONFIG\nfi
if [ -f CONFIG ]; then oumi train -c CONFIG; fi
[ -f CONFIG ] && oumi train -c CONFIG
test -f x || oumi train -c CONFIG
for C in CONFIG; do oumi train -c $C; done
for C in CONFIG other.yaml; do\n  oumi train -c "$C"\ndone
for C in {CONFIG,other.yaml}; do oumi train -c $C; done
for N in ${N:-CONFIG}; do oumi train -c ./$N; done
for C in CONF*; do oumi train -c $C; done
for I in 1 2; do oumi train -c CONFIG --training.run_name r$I; done
while true; do oumi train -c CONFIG; break; done
case $1 in a) ls;; *) oumi train -c CONFIG;; esac
f() { oumi train -c CONFIG; }; f
f() {\n  oumi train -c "$1"\n}\nf CONFIG
function f { oumi train -c $1; }\nf CONFIG
function f() {\n oumi train "$@"\n}\nf -c CONFIG
ARGS=(-c CONFIG); oumi train "${ARGS[@]}"
ARGS=(\n  -c CONFIG\n  -v\n)\noumi train "${ARGS[@]}"
ARGS=(-v); ARGS+=(-c CONFIG); oumi train ${ARGS[*]}
ARGS="-c CONFIG"; oumi train $ARGS
OUMI="oumi train"; $OUMI -c CONFIG
oumi train -c ${UNSET:-CONFIG}
oumi train -c "${UNSET-CONFIG}"
C=${UNSET:=CONFIG}; oumi train -c $C
set -- CONFIG; oumi train -c $1
trap 'oumi train -c CONFIG' EXIT
oumi train -c CONFIG 2>&1 | tee log
echo start; oumi train -c CONFIG & wait
(oumi train -c CONFIG)
{ oumi train -c CONFIG; } > log 2>&1
X=$(oumi train -c CONFIG | tail -1)
X="$(oumi train -c CONFIG | tail -1)"
echo "$(oumi train -c CONFIG)"
! oumi train -c CONFIG
true && oumi train -c CONFIG
oumi train -c CONFIG || true
docker run -v $PWD:/w -w /w img oumi train -c CONFIG
tmux new-session -d "oumi train -c CONFIG"
./unknown-tool.bin oumi train -c CONFIG
"""
"""Each leads to the config."""

NOT_READ = r"""
oumi train -c $UNSET
oumi train -c $(cat which.txt)
oumi train -c "configs/$(hostname).yaml"
C=$(ls *.yaml | head -1); oumi train -c $C
while read C; do oumi train -c $C; done < list.txt
echo CONFIG | xargs oumi train -c
find . -name CONFIG -exec oumi train -c {} \;
parallel oumi train -c ::: CONFIG
oumi train -c <(envsubst < CONFIG)
oumi train -c ${X%.yml}.yaml
oumi train "$@"
cat > made.yaml <<END\nmodel: {}\nEND\noumi train -c made.yaml
{ echo a; echo b; } > made.yaml; oumi train -c made.yaml
for i in 1 2; do echo $i; done > made.yaml; oumi train -c made.yaml
(echo a) > made.yaml; oumi train -c made.yaml
exec > made.yaml; echo a; oumi train -c made.yaml
if true; then echo a; fi > made.yaml; oumi train -c made.yaml
sed s/a/b/ CONFIG > made.yaml; oumi train -c made.yaml
sed s/a/b/ CONFIG | tee made.yaml; oumi train -c made.yaml
cp CONFIG made.yaml; oumi train -c made.yaml
mkdir -p gen; cp CONFIG gen/; oumi train -c gen/CONFIG
git clone https://example.org/me/theirs.git; oumi train -c theirs/a.yaml
git clone https://example.org/me/theirs.git && cd theirs && oumi train -c configs/a.yaml
wget https://example.org/a.yaml; oumi train -c a.yaml
curl -fsSL https://example.org/a.yaml -o a.yaml; oumi train -c a.yaml
curl -O https://example.org/a.yaml; oumi train -c a.yaml
aws s3 cp s3://bucket/a.yaml .; oumi train -c a.yaml
gsutil -m cp gs://bucket/cfg/a.yaml cfg/; oumi train -c cfg/a.yaml
hf download me/configs a.yaml --local-dir cfg; oumi train -c cfg/a.yaml
oumi fetch oumi://configs/a/b.yaml -o got; oumi train -c got/configs/a/b.yaml
oumi fetch oumi://configs/a/b.yaml; oumi train -c ~/.oumi/fetch/configs/a/b.yaml
oumi train -c oumi://configs/a/b.yaml
oumi train -c llama3.1-8b
pushd theirs; oumi train -c $(basename $X)
docker run img oumi train -c /inside/a.yaml
docker run -v $PWD:/data img oumi train --config /data/cfg.yaml
docker run img bash -c "cd /work && oumi train -c a.yaml"
apptainer exec img.sif oumi train -c /opt/a.yaml
ssh node1 oumi train -c remote.yaml
ssh host "cd x; oumi train -c CONFIG"
srun --container-image=img oumi train -c /inside/a.yaml
cd $SOMEWHERE; oumi train -c CONFIG
cd $(mktemp -d); oumi train -c CONFIG
"""
"""What each loads is known only when it runs."""


def lines(text: str) -> list[str]:
    return [line.replace("\\n", "\n") for line in text.splitlines() if line]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(tmp_path / "home" / "flows"))
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "data.jsonl").write_text(_ROW * 3)
    (folder / "call.sh").write_text('oumi train -c "$1"\n')
    (folder / "whole.yaml").write_text(_TRAIN % (folder / "data.jsonl"))
    (folder / "other.yaml").write_text(_TRAIN % (folder / "data.jsonl"))
    (folder / "no_data.yaml").write_text(_TRAIN % (folder / "none.jsonl"))
    whole = (folder / "whole.yaml").read_text()
    (folder / "no_model.yaml").write_text(whole.replace("./model", str(folder / "none")))
    (folder / "whole.yaml").write_text(whole.replace("./model", str(folder / "model")))
    (folder / "other.yaml").write_text(whole.replace("./model", str(folder / "model")))
    return folder


def found(folder: Path, run: str, *, setup: str = "", cloud: str = "local") -> list[Finding]:
    (folder / "job.yaml").write_text(
        yaml.safe_dump(
            {"resources": {"cloud": cloud}, "working_dir": ".", "setup": setup or None, "run": run}
        )
    )
    launch = read_launch(read_config(folder / "job.yaml"), client_cwd=str(folder))
    return check_files(launch).findings


def errors(findings: list[Finding]) -> list[str]:
    return [one.message for one in findings if one.severity is Severity.ERROR]


def has(findings: list[Finding], code: FindingCode, words: str = "") -> bool:
    return any(one.code is code and words in one.message for one in findings)


@pytest.mark.parametrize("way", lines(FOLLOWED))
def test_a_config_is_followed_however_it_is_named(folder: Path, way: str) -> None:
    def script(config: str) -> str:
        glob = config[:4] + "*" if config != "whole.yaml" else "whole*"
        return (
            way.replace("CONF*", glob if "no_" not in config else config[:5] + "*")
            .replace("CONFIG", config)
            .replace("{folder}", str(folder))
        )

    assert errors(found(folder, script("whole.yaml"))) == []
    assert not has(found(folder, script("whole.yaml")), FindingCode.CONFIG_NOT_READ)
    for config in ("no_data.yaml", "no_model.yaml"):
        wrong = found(folder, script(config))
        assert has(wrong, FindingCode.PATH_NOT_FOUND, "none"), (config, wrong)


@pytest.mark.parametrize("way", lines(NOT_READ))
def test_a_config_that_cannot_be_followed_is_named_as_not_read(folder: Path, way: str) -> None:
    findings = found(folder, way.replace("CONFIG", "whole.yaml"))
    assert errors(findings) == []
    assert has(findings, FindingCode.CONFIG_NOT_READ), findings


WRONG = """\
oumi trian -c whole.yaml | unknown_command | 1
ls\\noumi trian -c whole.yaml | unknown_command | 2
command oumi trian -c whole.yaml | unknown_command | 1
python -m oumi trian -c whole.yaml | unknown_command | 1
oumi distributed torchrun -m oumi trian -c whole.yaml | unknown_command | 1
oumi distributed torchrn -m oumi train -c whole.yaml | unknown_command | 1
oumi lunch up -c job.yaml | unknown_command | 1
oumi launch upp -c job.yaml | unknown_command | 1
uv run oumi trainn -c whole.yaml | unknown_command | 1
bash -c 'oumi trian -c whole.yaml' | unknown_command | 1
oumi train whole.yaml | unknown_command | 1
oumi train --training.max_steps 3 | unknown_command | 1
ls\\necho "oumi\\noumi train -c whole.yaml | broken_script | 2
echo 'it\\noumi train -c whole.yaml | broken_script | 1
if true; then\\n  oumi train -c whole.yaml | broken_script | 2
for i in 1 2; oumi train -c whole.yaml; done | broken_script | 1
ls\\nX=$(ls | broken_script | 2
oumi train -c whole.yaml; fi | broken_script | 1
f() { oumi train -c whole.yaml | broken_script | 1
ls\\nls (\\n | broken_script | 2
bash -c 'if true; then ls' | broken_script | 1
source ./missing.sh | path_not_found | 1
ls\\n\\n# a\\nsource ./missing.sh\\noumi train -c whole.yaml | path_not_found | 4
. ./missing.sh | path_not_found | 1
bash missing.sh | path_not_found | 1
bash -x sub/missing.sh a b | path_not_found | 1
sh $PWD/missing.sh | path_not_found | 1
./missing.sh | path_not_found | 1
cd sub && ./missing.sh | path_not_found | 1
python missing.py | path_not_found | 1
python3 -u sub/missing.py --a 1 | path_not_found | 1
torchrun --nproc-per-node 2 missing.py | path_not_found | 1
source sub/missing.sh && oumi train -c whole.yaml | path_not_found | 1
oumi train -c missing.yaml | path_not_found | 1
ls \\\\\\n  -l\\nls\\noumi train \\\\\\n  -c missing.yaml | path_not_found | 4
cat <<END\\na\\nb\\nEND\\noumi train -c missing.yaml | path_not_found | 5
oumi train -c https://example.org/a.yaml | path_not_found | 1
oumi train -c whole.yaml --training.max_stepz 3 | bad_option | 1
ls\\nls\\noumi train -c whole.yaml --training.max_stepz 3 | bad_option | 3
"""


@pytest.mark.parametrize("case", WRONG.splitlines())
def test_a_script_that_surely_fails_is_an_error_at_its_line(folder: Path, case: str) -> None:
    text, code, line = (part.strip() for part in case.rsplit("|", 2))
    script = text.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
    header = "resources: {cloud: local}\n\n# a comment\nrun: |\n"
    (folder / "job.yaml").write_text(header + textwrap.indent(script, "  ") + "\n")
    launch = read_launch(read_config(folder / "job.yaml"), client_cwd=str(folder))
    findings = [one for one in check_files(launch).findings if one.severity is Severity.ERROR]
    assert [(one.code.value, one.line) for one in findings] == [(code, 4 + int(line))], findings


@pytest.mark.parametrize(
    "setup",
    [
        "hf download org/model",
        "huggingface-cli download org/model --local-dir models/m",
        "wget https://example.org/data.zip",
        "curl -LO https://example.org/data.zip",
        "git clone https://example.org/me/tools.git",
        "aws s3 cp s3://b/data.jsonl data/",
        "pip install oumi && python -m pip install x",
        "curl -LsSf https://example.org/install.sh | sh",
        "unzip data.zip",
    ],
)
def test_a_misspelt_config_is_an_error_whatever_setup_downloads(folder: Path, setup: str) -> None:
    (folder / "train.yaml").write_text((folder / "whole.yaml").read_text())
    findings = found(folder, "oumi train -c trian.yaml", setup=setup)
    assert any("trian.yaml does not exist; did you mean train.yaml" in e for e in errors(findings))


WORKS = r"""
source ~/.bashrc; oumi train -c whole.yaml
python -m venv venv && source venv/bin/activate && oumi train -c whole.yaml
uv venv && source .venv/bin/activate && oumi train -c whole.yaml
[ -f .env ] && source .env; oumi train -c whole.yaml
source .env || true; oumi train -c whole.yaml
git clone https://example.org/me/x.git && bash x/run.sh
wget https://example.org/run.sh && bash run.sh
cat > run.py <<END\nprint(1)\nEND\npython run.py
printf 'oumi train -c whole.yaml' > go.sh && bash go.sh
docker run -v $PWD:/w img bash /w/inside.sh
docker run img python inside.py
shopt -s extglob; ls !(a|b); oumi train -c whole.yaml
if command -v oumi; then oumi train -c whole.yaml; fi
oumi env; oumi --help; oumi train --help; oumi cache ls; oumi launch which
pip install oumi; uv pip install --system oumi trainer
echo "oumi trian -c x"; # oumi trian
python - <<'END'\nprint("it's")\nEND\noumi train -c whole.yaml
python -c 'import oumi; print("oumi trian")'
conda activate oumi && oumi train -c whole.yaml
module load cuda; srun python -m oumi train -c whole.yaml
x=$((1 << 3)); oumi train -c whole.yaml
cat <<-END\n\ta\n\tEND\noumi train -c whole.yaml
ls *.yaml | while read f; do echo $f; done
make train
python $SCRIPT.py; bash "$X/run.sh"; ./$X.sh
sed 's/oumi trian/x/' whole.yaml
grep -q "oumi" whole.yaml && oumi train -c whole.yaml
export PATH=$PWD/bin:$PATH; oumi quantize --model ./model --method bnb_4bit
"""


@pytest.mark.parametrize("script", lines(WORKS))
def test_a_script_that_may_work_is_not_blocked(folder: Path, script: str) -> None:
    assert errors(found(folder, script)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_nodes", 0), ("num_nodes", -1), ("num_nodes", "0"), ("resources.disk_size", 0),
     ("resources.cpus", "0"), ("resources.cpus", "-2+"), ("resources.memory", 0)],
)  # fmt: skip
def test_a_count_of_nothing_is_an_error(folder: Path, key: str, value: object) -> None:
    data: dict[str, object] = {"resources": {"cloud": "gcp"}, "run": "ls"}
    if key.startswith("resources."):
        data["resources"] = {"cloud": "gcp", key.partition(".")[2]: value}
    else:
        data[key] = value
    (folder / "job.yaml").write_text(yaml.safe_dump(data))
    launch = read_launch(read_config(folder / "job.yaml"), client_cwd=str(folder))
    wrong = [one.key for one in check_files(launch).findings if one.code is FindingCode.BAD_NUMBER]
    assert wrong == [key]
