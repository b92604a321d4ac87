# SPDX-License-Identifier: GPL-2.0-or-later
"""
How requests come, and where they are served (--modes): the same work on the kernel's overlayfs, fuse-overlayfs, on us over
/dev/fuse and over io_uring and with passthrough, each with tools and daemon pinned to one processor as well; in turns, and
with the processor time of all: tools, daemon and kernel, which is what the machine was not idle. So nothing else may run.
"""
import fnmatch
import os
import statistics
import time

from . import report
from .base import Failed, remove, shell, syncfs, tool
from .mounts import FuseOverlayfs, Overlay, Unionfs

PARAMETER = '/sys/module/fuse/parameters/enable_uring'


class Mode:
    def __init__(self, name, kind, opts='', pinned=False, program=None):
        self.name, self.kind, self.opts, self.pinned, self.program = name, kind, opts, pinned, program


class Job:
    def __init__(self, name, title, lower, do, prepare=None, source=None):
        self.name, self.title, self.lower, self.do = name, title, lower, do
        self.prepare = prepare or (lambda run, m: None)
        self.source = source            # a further input


def unpack(run, m):
    return tool('tar', '-C', m, '-xf', run.inputs.get('tar') + '/include.tar')


def write_big(run, m):
    return tool('dd', 'if=/dev/zero', 'of=%s/new' % m, 'bs=1M', 'count=%d' % run.inputs.size['big_mib'])


JOBS = [Job('untar', 'untar', 'empty', unpack, source='tar'),
        Job('rm.new', 'rm -rf of new files', 'empty', lambda run, m: tool('rm', '-rf', m + '/include'), prepare=unpack,
            source='tar'),
        Job('cp', 'cp -a of a lower tree', 'include', lambda run, m: tool('cp', '-a', m + '/include', m + '/copy')),
        Job('rm.lower', 'rm -rf of a lower tree', 'include', lambda run, m: tool('rm', '-rf', m + '/include')),
        Job('git.clone', 'git clone', 'empty', source='repo',
            do=lambda run, m: tool('git', 'clone', '-q', run.inputs.get('repo') + '/repo.git', m + '/clone')),
        Job('stat.first', 'first walk with stat', 'tree', lambda run, m: run.helpers('walk', m)),
        Job('tar.first', 'tar of all, first on the mount', 'tree',
            lambda run, m: shell('tar -cf - . | cat >/dev/null', cwd=m)),
        Job('procs.2', '2 processes: create, rename, unlink', 'empty',
            lambda run, m: run.helpers('churn', m, 2, run.inputs.size['churn'])),
        Job('read.big.first', 'read 1 GiB, first on the mount', 'big',
            lambda run, m: tool('dd', 'if=%s/big' % m, 'of=/dev/null', 'bs=1M')),
        Job('write.big', 'write 1 GiB', 'empty', write_big)]
NOT_PINNED = {'procs.2'}                # two processes on one processor are another question


def modes(args):
    """Those that can be had here, the kernel's first."""
    ours = [('dev', 'io_uring=off')]
    if os.access(PARAMETER, os.W_OK):
        ours.append(('io_uring', 'io_uring=on'))
    if _knows(args.binary, 'passthrough'):
        ours.append(('pass', 'io_uring=off,passthrough=on'))
    out = []
    for pinned in (False, True):
        end = ', pinned' * pinned
        out += [Mode('kernel' + end, Overlay, args.kernel_opts, pinned)] * ('kernel' in args.fs)
        out += [Mode('f-ovl' + end, FuseOverlayfs, '', pinned)] * ('fuse-overlayfs' in args.fs)
        if args.before:
            out.append(Mode('before' + end, Unionfs, 'io_uring=off', pinned, args.before))
        out += [Mode(name + end, Unionfs, ','.join(o for o in (opts, args.our_opts) if o), pinned)
                for name, opts in ours]
    return out


def _knows(binary, option):
    try:
        return option in tool(binary, '--help', output=True)[1]
    except Failed:
        return False


def busy():
    """Seconds of all processors together that were not idle."""
    with open('/proc/stat') as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf('SC_CLK_TCK')


def one(run, job, mode):
    where = os.sched_getaffinity(0)
    if mode.pinned:
        os.sched_setaffinity(0, {max(where)})
    mount = mode.kind(run.scratch.dir + '/modes', [run.inputs.get(job.lower)], mode.opts)
    if mode.program:
        mount.program = mode.program
    try:
        mount.start()
        job.prepare(run, mount.path)
        syncfs(run.scratch.dir)
        time.sleep(0.1)                 # what is done after an answer, or waits for a moment without requests
        before = busy()
        seconds = job.do(run, mount.path)
        return {'seconds': seconds, 'cpu': busy() - before}
    finally:
        mount.close()
        os.sched_setaffinity(0, where)


def matching(globs):
    return [j for j in JOBS if not globs or any(fnmatch.fnmatchcase(j.name, g) for g in globs)]


def parameter(value):
    """Whether mounts to come may have io_uring; what it was."""
    try:
        with open(PARAMETER) as f:
            was = f.read().strip()
        if was != value:
            with open(PARAMETER, 'w') as f:
                f.write(value)
        return was
    except OSError:
        return None


def measure(run):
    jobs, all_modes = matching(run.args.only), modes(run.args)
    for job in jobs:
        for name in [job.lower] + [job.source] * bool(job.source):
            run.helpers('read', run.inputs.get(name))       # made, and in memory
    samples = {}
    run.progress.total = run.args.rounds * len(jobs) * len(all_modes)
    was = parameter('Y')
    try:
        for n in range(run.args.rounds):
            for job in jobs:
                for mode in all_modes[::-1 if n % 2 else 1]:
                    if mode.pinned and job.name in NOT_PINNED:
                        continue
                    run.progress.step('round %d/%d  %-12s %s' % (n + 1, run.args.rounds, job.name, mode.name))
                    try:
                        sample = one(run, job, mode)
                        samples.setdefault((job.name, mode.name), []).append(sample)
                    except (Failed, OSError) as e:
                        run.failures.setdefault('%s, %s' % (job.name, mode.name), str(e))
    finally:
        if was is not None:
            parameter(was)
    remove(run.scratch.dir + '/modes')
    return [{'row': j.name, 'title': j.title, 'missed': False,
             'modes': {m.name: dict({key: statistics.median(s[key] for s in samples[j.name, m.name])
                                     for key in ('seconds', 'cpu')}, samples=samples[j.name, m.name])
                       for m in all_modes if (j.name, m.name) in samples}} for j in jobs]


def text(entries):
    names = list(dict.fromkeys(m for e in entries for m in e['modes']))
    cells = [[''] + names + ['']]
    for e in entries:
        cells.append(['%-14s %s' % (e['row'], e['title'])] +
                     ['%.2f / %.2f' % (e['modes'][m]['seconds'], e['modes'][m]['cpu']) if m in e['modes'] else '-'
                      for m in names] + [''])
    return ['', 'Seconds, and seconds of processor time of all: tools, daemon and kernel.', ''] + report.columns(cells)
