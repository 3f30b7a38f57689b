"""The shell scripts that query Slurm for jobs, and the parsers of their answers.

Each query is one script, and one call to the cluster. `squeue` and `scontrol` know the jobs of the
last minutes, `sacct` those of the accounts. A cluster without accounts still has the files that
the job's own script wrote.
"""

import base64
import shlex
from contextlib import suppress

from flows.launcher.port import Observation
from flows.launcher.slurm.script import JOBS_FOLDER, LOGS_FOLDER, SCRIPT
from flows.launcher.slurm.ssh import CANNOT_TELL
from flows.launcher.slurm.states import slurm_observation

_HEAD = f"""\
me=$(id -un)
jobs=$HOME/{JOBS_FOLDER}
queue() {{ squeue --user="$me" --states=all --noheader "$@"; }}
accounts() {{ sacct --allocations --noheader --parsable2 "$@"; }}
has_no_accounts() {{ case $1 in *disabled*) return 0;; esac; echo "$1" >&2; return 1; }}
phase() {{
  case $1 in ''|*[!A-Za-z0-9_-]*) return;; esac
  cat "$jobs/$1/phase" 2>/dev/null
}}
# Both commands print a line for each part of a job array or heterogeneous job.
row() {{ grep -m 1 "^$id|"; }}
exit_code() {{
  scontrol --oneliner show job "$id" |
    sed -n "s/^JobId=$id .* ExitCode=\\([0-9:]*\\).*/\\1/p" | head -n 1
}}
"""

_LIST = (
    _HEAD
    + f"""\
list=$(queue --format='%A|%T|%r|%j') || exit {CANNOT_TELL}
printf '%s\\n' "$list" | while IFS='|' read -r id state why name; do
  code=
  if [ "$state" = FAILED ]; then
    code="$(exit_code)|$(phase "$name")"
  fi
  printf '%s|%s|%s|%s\\n' "$id" "$state" "$why" "$code"
done
"""
)

_JOB = """\
if said=$(queue --jobs="$id" --format='%A|%T|%r|%j' 2>&1); then
  IFS='|' read -r _ state why name <<<"$(row <<<"$said")"
  code=$(exit_code)
else
  case $said in *'nvalid job id'*) ;; *) echo "$said" >&2; exit CANNOT_TELL;; esac
fi
if [ -z "$state" ]; then
  if said=$(accounts --jobs="$id" --format=JobIDRaw,State,Reason,ExitCode,JobName 2>&1); then
    IFS='|' read -r _ state why code name <<<"$(row <<<"$said")"
    # The controller knows all live jobs: it lost a job that is live in the accounts alone.
    case $state in RUNNING*|PENDING*|SUSPENDED*|REQUEUED*|COMPLETING*) state=;; esac
  else
    has_no_accounts "$said" || exit CANNOT_TELL
  fi
  if [ -z "$state" ]; then
    kept=$(find "$jobs" -maxdepth 2 -name job_id -exec grep -lx -e "$id" {} + | head -n 1)
    code=$(cat "${kept%/*}/exit" 2>/dev/null) || exit 0
    name=$(basename "${kept%/*}"); state=FAILED
    [ "$code" = 0 ] && state=COMPLETED
  fi
fi
[ -n "$state" ] && printf '%s|%s|%s|%s|%s\\n' "$id" "$state" "$why" "$code" "$(phase "$name")"
exit 0
""".replace("CANNOT_TELL", str(CANNOT_TELL))

_BY_NAME = """\
by_name() {
  local said
  said=$(queue --name="$key" --format=%F) || return CANNOT_TELL
  if [ -z "$said" ]; then
    said=$(accounts --user="$me" --name="$key" --starttime=now-30days --format=JobIDRaw 2>&1) ||
      { has_no_accounts "$said" && said=; } || return CANNOT_TELL
  fi
  printf '%s\\n' "$said" | sort -n | head -n 1
}
known() {
  if [ -s "$jobs/$key/job_id" ]; then cat "$jobs/$key/job_id"; else by_name; fi
}
""".replace("CANNOT_TELL", str(CANNOT_TELL))

_SUBMIT = """\
cd "$jobs/$key" || exit 1
# One submission at a time; a later one finds the id of the first.
exec 9>>lock
flock -w 60 9 || { echo 'another launch of this job takes too long' >&2; exit CANNOT_TELL; }
# A broken connection must not separate the submission from its record.
trap '' HUP PIPE
id=$(known) || exit CANNOT_TELL
if [ -n "$id" ]; then
  [ "$(cat job_stage 2>/dev/null)" = "$stage" ] || rm -rf -- "$stage"
else
  printf '%s\n' "$stage" >job_stage && mkdir -p "$HOME/LOGS" && cd "$stage" || exit 1
  if ! id=$(submit 2>../sbatch.err); then
    cat ../sbatch.err >&2
    case $(cat ../sbatch.err) in
      *'nable to contact'*|*'imed out'*|*onnection*) exit CANNOT_TELL;;
    esac
    exit 1
  fi
  id=${id%%;*}
  cd ..
fi
[ -s job_id ] || { printf '%s\n' "$id" >job_id.new && mv job_id.new job_id; }
printf '%s\n' "$id"
""".replace("CANNOT_TELL", str(CANNOT_TELL)).replace("LOGS", LOGS_FOLDER)


def list_script() -> str:
    """Return the script that prints every job of the user that Slurm has in memory."""
    return _LIST


def job_script(job_id: str) -> str:
    """Return the script that prints one job, if it ever existed."""
    return f"{_HEAD}id={shlex.quote(job_id)} state=\n{_JOB}"


def find_script(key: str) -> str:
    """Return the script that prints the id of the job launched as `key`, if there is one."""
    return f"{_HEAD}{_BY_NAME}key={shlex.quote(key)}\nknown\n"


def prepare_script(key: str, stage: str, folders: list[str]) -> str:
    """Return a script that does as `find_script`, and creates folders if there is no job yet."""
    made = [f"{JOBS_FOLDER}/{key}/{stage}", *folders]
    return (
        f"{_HEAD}{_BY_NAME}key={shlex.quote(key)}\n"
        f"id=$(known) || exit {CANNOT_TELL}\n"
        f"""[ -n "$id" ] && {{ printf '%s\\n' "$id"; exit; }}\n"""
        f"cd && mkdir -p -- {shlex.join(made)} && chmod 700 {shlex.quote(made[0])}\n"
    )


def submit_script(key: str, stage: str, *, script: str, sbatch: list[str]) -> str:
    """Return the script that submits the prepared job, at most once, and prints its id."""
    text = base64.encodebytes(script.encode()).decode()
    return (
        f"{_HEAD}{_BY_NAME}key={shlex.quote(key)} stage={shlex.quote(stage)}\n"
        "submit() {\n"
        f"  (umask 077; base64 -d >{SCRIPT}) <<'END_OF_SCRIPT' || return\n{text}END_OF_SCRIPT\n"
        f'  {shlex.join(sbatch)} --output="$HOME"/{LOGS_FOLDER}/%j.out {SCRIPT}\n'
        f"}}\n{_SUBMIT}"
    )


def log_script(job_id: str, *, offset: int, limit: int) -> str:
    """Return the script that prints a part of a job's log."""
    return (
        f"log=$HOME/{LOGS_FOLDER}/{job_id}.out\n"
        f"""[ -e "$log" ] || log=$(scontrol show job {job_id} 2>/dev/null | awk '\n"""
        f"""  /^JobId=/ {{ mine = $1 == "JobId={job_id}" }}\n"""
        """  mine && sub(/^ *StdOut=/, "") { print; exit }')\n"""
        f"""[ -r "$log" ] && tail -c +{offset + 1} "$log" | head -c {limit}\nexit 0\n"""
    )


def enter_script(key: str, job_id: str) -> str:
    """Return a script that goes to the folder of the job of a key; of another job, by its id.

    It sets `marker` to a file that is as old as the submission.
    """
    return (
        f"{_HEAD}key={shlex.quote(key)} id={shlex.quote(job_id)}\n"
        'if [ -s "$jobs/$key/job_stage" ]; then\n'
        # The script has the job's environment, and its secrets.
        f"  marker=$jobs/$key/job_stage skip={SCRIPT}\n"
        '  cd "$jobs/$key/$(cat "$marker")" || exit 0\n'
        'elif [ -d "$jobs/$key" ] || [[ ! $id =~ ^[0-9]+$ ]] || [[ $key != *-1 ]]; then exit 0\n'
        "else\n"
        '  work=$(scontrol show job "$id" 2>/dev/null |\n'
        "    sed -n 's/^ *WorkDir=//p' | head -n 1)\n"
        '  [ -n "$work" ] ||\n'
        '    work=$(accounts --jobs="$id" --format=WorkDir 2>/dev/null | head -n 1)\n'
        '  case $work in ""|"$HOME"|"$jobs"/*) exit 0;; esac\n'
        '  cd "$work" || exit 0\n'
        "fi\n"
    )


def cancel_script(job_id: str) -> str:
    """Return the script that cancels a job."""
    return f"scancel {job_id} || exit {CANNOT_TELL}\n"


def parse_list(text: str) -> dict[str, Observation]:
    """Parse the output of `list_script`, by job id; skip lines that cannot be parsed."""
    seen: dict[str, Observation] = {}
    for line in text.splitlines():
        # One malformed row must not hide the other jobs of the cluster.
        with suppress(ValueError):
            seen |= _read(line)
    return seen


def parse_job(text: str) -> Observation | None:
    """Parse the output of `job_script`.

    Raises:
        ValueError: It cannot be parsed.
    """
    return next(iter(_read(text).values()), None) if text else None


def _read(line: str) -> dict[str, Observation]:
    job_id, state, why, code, phase = (*line.split("|"), "", "")[:5]
    if not job_id.isdecimal():
        raise ValueError(f"not a job of Slurm's: {line}")
    exit_code, _, signal = code.partition(":")
    return {
        job_id: slurm_observation(
            state, exit_code=int(exit_code or 0), signal=int(signal or 0), why=why, phase=phase
        )
    }
