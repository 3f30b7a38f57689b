"""The warm host: a process that has imported Oumi, and from which commands of jobs are forked.

A job's script runs `oumi`, which is `program.py` here: the job's supervisor then forks a process
that becomes that command, without the 10 CPU seconds of imports. The supervisor itself is forked
from the host, so all processes of a job still descend from it, and the host may end at any moment.
What the host cannot do exactly as a new process would, runs as a new process.
"""
