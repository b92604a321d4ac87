# SPDX-License-Identifier: GPL-2.0-or-later
"""What everything here needs: system calls, running tools with a time limit, the helpers."""
import contextlib
import ctypes
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
BENCH = os.path.dirname(HERE)
TOP = os.path.dirname(os.path.dirname(BENCH))
PR_SET_PDEATHSIG = 1
LIMIT = 900                             # seconds; no piece of work takes that long unless it hangs


def _load(package, path, module):
    """A module of a package that is called as ours is, lib: under another name."""
    spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [path]
    sys.modules[package] = importlib.util.module_from_spec(spec)
    return importlib.import_module('%s.%s' % (package, module))


# The integration tests have the system calls that Python lacks.
k = _load('integration', os.path.join(TOP, 'tests/integration/lib'), 'kernel')


class Failed(Exception):
    """A piece of work did not end well: this row has no figure on this file system."""


def die_with_parent():
    k.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def syncfs(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        k.check(k.libc.syncfs(ctypes.c_int(fd)), 'syncfs')
    finally:
        os.close(fd)


def remove(*paths):
    paths = [p for p in paths if os.path.lexists(p)]
    if paths:
        subprocess.run(['rm', '-rf', '--one-file-system'] + paths, check=True)


# ---- caches

own_drops = 0


def drop_caches():
    """Names and inodes, not the contents of files."""
    global own_drops
    k.drop_caches(2)
    own_drops += 1


def foreign_drops():
    """How often others on this machine have emptied the caches."""
    with open('/proc/vmstat') as f:
        counts = dict(line.split() for line in f)
    return int(counts['drop_slab']) + int(counts['drop_pagecache']) - own_drops


# ---- nothing may hang for ever

def abort_connection(path):
    """End a FUSE mount whose daemon does not answer; does not touch the mount itself."""
    for device, where, kind, _, _ in k.mounts():
        if where == path and kind.startswith('fuse'):
            control = '/sys/fs/fuse/connections/%s/abort' % device.split(':')[1]
            with contextlib.suppress(OSError), open(control, 'w') as f:
                f.write('1')


@contextlib.contextmanager
def watchdog(on_late, seconds=LIMIT):
    late = threading.Timer(seconds, on_late)
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


# ---- work

ENV = {'PATH': os.environ.get('PATH', '/usr/bin:/bin'), 'LC_ALL': 'C', 'TZ': 'UTC',
       'GIT_CONFIG_NOSYSTEM': '1', 'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_TERMINAL_PROMPT': '0',
       'GIT_AUTHOR_NAME': 'bench', 'GIT_AUTHOR_EMAIL': 'bench@localhost',
       'GIT_COMMITTER_NAME': 'bench', 'GIT_COMMITTER_EMAIL': 'bench@localhost',
       'GIT_CONFIG_COUNT': '3',
       'GIT_CONFIG_KEY_0': 'safe.directory', 'GIT_CONFIG_VALUE_0': '*',
       'GIT_CONFIG_KEY_1': 'gc.auto', 'GIT_CONFIG_VALUE_1': '0',
       'GIT_CONFIG_KEY_2': 'maintenance.auto', 'GIT_CONFIG_VALUE_2': 'false'}


def tool(*argv, cwd=None, stdin=None, output=False, limit=LIMIT):
    """Run a program; its seconds, or (seconds, what it said)."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as out:
        begin = time.perf_counter()
        p = subprocess.Popen(argv, cwd=cwd, env=ENV, stderr=said, start_new_session=True,
                             stdout=out if output else subprocess.DEVNULL,
                             stdin=stdin or subprocess.DEVNULL)
        with watchdog(lambda: os.killpg(p.pid, signal.SIGKILL), limit):
            status = p.wait()
        seconds = time.perf_counter() - begin
        if status:
            said.seek(0)
            raise Failed('%s: status %d: %s' % (' '.join(argv)[:100], status,
                                                said.read().decode(errors='replace')[-300:].strip()))
        if not output:
            return seconds
        out.seek(0)
        return seconds, out.read().decode(errors='replace')


def shell(command, cwd=None):
    return tool('sh', '-c', command, cwd=cwd)


class Helpers:
    """bench-fs and bench-diff: from the build directory, or compiled when it has none."""

    def __init__(self, binary, scratch):
        self.dir = os.path.join(os.path.dirname(binary), 'tests/bench')
        if os.access(self.dir + '/bench-fs', os.X_OK):
            return
        self.dir = scratch + '/helpers'
        os.mkdir(self.dir)
        for name in ('bench-fs', 'bench-diff'):
            subprocess.run([os.environ.get('CC', 'cc'), '-O2', '-D_GNU_SOURCE', '-o',
                            '%s/%s' % (self.dir, name), '%s/%s.c' % (BENCH, name)], check=True)

    def __call__(self, *argv):
        """The seconds a helper says its work took."""
        name = 'bench-diff' if argv[0] == 'diff' else 'bench-fs'
        args = argv[1:] if argv[0] == 'diff' else argv
        _, said = tool('%s/%s' % (self.dir, name), *map(str, args), output=True)
        return float(said.split()[0])


def missing(programs):
    return [p for p in programs if not shutil.which(p)]
