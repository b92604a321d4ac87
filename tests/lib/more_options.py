# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that is the daemon, with options that come before those it is given."""
import os
import shlex


def program(path, binary, options):
    with open(path, 'w') as f:
        # By which name it is called matters.
        f.write('#!/bin/bash\n'
                'case "$1" in ctl | --help | --version | -h | -V) exec -a "$0" {0} "$@" ;; esac\n'
                'exec -a "$0" {0} -o {1} "$@"\n'.format(shlex.quote(binary), shlex.quote(options)))
    os.chmod(path, 0o755)
    return path
