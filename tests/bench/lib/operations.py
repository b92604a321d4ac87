# SPDX-License-Identifier: GPL-2.0-or-later
"""
What one operation costs in requests and in system calls of the daemon: N of a kind, divided by N.
The first N times may load something once, so figures a little above a whole number are rounded.
"""
import os
import shutil
import sys
import traceback

from .base import Failed, k, remove, watchdog
from .counts import KernelRequests, Strace
from .mounts import KINDS

N = 200
LAYERS = 128


class Operation:
    def __init__(self, title, do, before=None, requests=None, calls=None, layers=1):
        self.title, self.do, self.before = title, do, before
        self.requests, self.calls = requests, calls     # at most
        self.layers = layers


def name(i):
    return 'f%03d' % i


def each(fn):
    def do(m):
        for i in range(N):
            fn(m, i)
    return do


def walk(m):
    for d in ('d', 'dirs'):
        with os.scandir('%s/%s' % (m, d)) as it:
            for e in it:
                os.lstat(e.path)


def forgotten(m):
    walk(m)
    k.drop_caches(2)


def a_file(m, i, sub='d'):
    return '%s/%s/%s' % (m, sub, name(i))


def miss(m, i):
    try:
        os.lstat('%s/d/missing%d' % (m, i))
    except FileNotFoundError:
        pass


def open_read_close(m, i):
    fd = os.open(a_file(m, i), os.O_RDONLY)
    os.read(fd, 100)
    os.close(fd)


def create_write_close(m, i):
    fd = os.open('%s/new/%s' % (m, name(i)), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, b'x' * 4096)
    os.close(fd)


def append(m, i):
    fd = os.open(a_file(m, i), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b'more\n')
    os.close(fd)


def readlink(m, i):
    os.readlink('%s/links/%s' % (m, name(i)))


def new_dir(m):
    if not os.path.isdir(m + '/new'):
        os.mkdir(m + '/new')
    open(m + '/new/first', 'w').close()


def created(m):
    new_dir(m)
    each(create_write_close)(m)


def made(m):
    new_dir(m)
    each(lambda m, i: os.mkdir('%s/new/%s' % (m, name(i))))(m)


def both(a, b):
    def do(m):
        a(m)
        b(m)
    return do


OPERATIONS = [
    Operation('stat, again', each(lambda m, i: os.lstat(a_file(m, i))), walk, 0, 0),
    Operation('stat of a missing name, again', each(miss), each(miss), 0, 0),
    Operation('open, read, close, again', each(open_read_close), each(open_read_close), 0, 0),
    Operation('readlink, again', each(readlink), each(readlink), 0, 0),
    Operation('list a directory, again', each(lambda m, i: os.listdir(m + '/d')), walk, 0, 0),
    Operation('walk with stat, first, per name of 400', walk),
    Operation('the same over 128 layers', walk, layers=LAYERS),
    Operation('stat of a name in a listed directory', each(lambda m, i: os.lstat(a_file(m, i))),
              forgotten, calls=2),
    Operation('the same over 128 layers', each(lambda m, i: os.lstat(a_file(m, i))),
              forgotten, calls=2, layers=LAYERS),
    Operation('a miss in a listed directory', each(miss), walk, 1, 0),
    Operation('the same over 128 layers', each(miss), walk, 1, 0, layers=LAYERS),
    Operation('stat of a directory not looked into', each(lambda m, i: os.lstat(a_file(m, i, 'dirs')))),
    Operation('the same over 128 layers', each(lambda m, i: os.lstat(a_file(m, i, 'dirs'))),
              layers=LAYERS),
    Operation('open, read, close, first', each(open_read_close), walk),
    Operation('create, write 4 KiB, close', each(create_write_close), new_dir, 5),
    Operation('unlink of a new file', each(lambda m, i: os.unlink('%s/new/%s' % (m, name(i)))),
              created, 2),
    Operation('rename of a new file', each(lambda m, i: os.rename('%s/new/%s' % (m, name(i)),
                                                                  '%s/new/r%03d' % (m, i))),
              created, 3),
    Operation('chmod of a new file', each(lambda m, i: os.chmod('%s/new/%s' % (m, name(i)), 0o600)),
              created),
    Operation('mkdir', each(lambda m, i: os.mkdir('%s/new/%s' % (m, name(i)))), new_dir, 3),
    Operation('rmdir', each(lambda m, i: os.rmdir('%s/new/%s' % (m, name(i)))), made, 2),
    Operation('symlink', each(lambda m, i: os.symlink('target', '%s/new/%s' % (m, name(i)))), new_dir),
    Operation('append to a lower file, and close', each(append), walk),
    Operation('append again', each(append), each(append)),
    Operation('chmod of a lower file', each(lambda m, i: os.chmod(a_file(m, i), 0o600)), walk),
    Operation('unlink of a lower file', each(lambda m, i: os.unlink(a_file(m, i))), walk, 2),
]


def make_lowers(top):
    """One lower with everything, and more that only share its directories."""
    for n in range(LAYERS):
        for sub in ['d', 'links'] + ['dirs/' + name(i) for i in range(N)]:
            os.makedirs('%s/%d/%s' % (top, n, sub))
    for i in range(N):
        here = '%s/%d' % (top, LAYERS - 1)
        with open('%s/d/%s' % (here, name(i)), 'w') as f:
            f.write('hello\n' * 50)
        os.symlink('../d/' + name(i), '%s/links/%s' % (here, name(i)))
        with open('%s/dirs/%s/file' % (here, name(i)), 'w') as f:
            f.write('x')


def in_child(fn, *args):
    """Through a mount only in a process that may hang without us."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fn(*args)
            code = 0
        except BaseException:
            traceback.print_exc(limit=2)
            sys.stderr.flush()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def count(op, fs, opts, scratch, kernel):
    lowers = ['%s/operations/%d' % (scratch, n) for n in range(LAYERS - op.layers, LAYERS)]
    mount = KINDS[fs](scratch + '/operation', lowers, opts)
    with watchdog(mount.abort, 120):
        try:
            mount.start()
            if op.before and not in_child(op.before, mount.path):
                raise Failed('%s: preparing failed' % op.title)
            if shutil.which('strace'):
                strace = Strace(scratch + '/strace', [mount.pid()], each=True)
            kernel.begin([mount])
            ok = in_child(op.do, mount.path)
            requests = kernel.end()
            calls = strace.end() if shutil.which('strace') else None
        finally:
            mount.close()
    if not ok:
        raise Failed(op.title)
    return requests, calls


def _per(counts):
    return None if counts is None else sum(counts.values()) / N


def count_all(run):
    """A list of dicts, one for each operation."""
    scratch, out = run.scratch.dir, []
    os.mkdir(scratch + '/operations')
    make_lowers(scratch + '/operations')
    kernel = KernelRequests()
    run.progress.done, run.progress.total = 0, len(OPERATIONS)
    for op in OPERATIONS:
        run.progress.step('operation  ' + op.title)
        entry = {'title': op.title, 'max_requests': op.requests, 'max_calls': op.calls}
        for fs in run.args.fs:
            if not fs.startswith('fuse-'):
                continue
            opts = run.args.our_opts if fs == 'fuse-unionfs' else ''
            try:
                requests, calls = count(op, fs, opts, scratch, kernel)
            except (Failed, OSError) as e:
                run.failures['%s on %s' % (op.title, fs)] = str(e)
                continue
            entry[fs] = {'requests': _per(requests), 'calls': _per(calls),
                         'kinds': {n: c / N for n, c in sorted((requests or {}).items())
                                   if c >= N / 20}}
        entry['missed'] = _missed(entry)
        out.append(entry)
    kernel.close()
    remove(scratch + '/operations')
    return out


def _missed(entry):
    """A handful in all is what loads something once."""
    ours = entry.get('fuse-unionfs', {})
    return any(entry[most] is not None and ours.get(what) is not None and
               ours[what] > entry[most] + 0.1
               for what, most in (('requests', 'max_requests'), ('calls', 'max_calls')))
