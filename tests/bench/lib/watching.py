# SPDX-License-Identifier: GPL-2.0-or-later
"""
What it costs to watch the layers (--watching): the same work with cache=auto and with cache=immutable, which
watches nothing, in turns. Both are the same program, so small differences count: rounds alternate which of them is
first, and the processor time of client and daemon is told beside the seconds, since others on the machine blur it
less. With --counts the system calls that only one of them makes, instead.
"""
import fnmatch
import json
import resource
import statistics
import subprocess

from . import report
from .base import Failed, remove, syncfs, tool
from .counts import Strace
from .mounts import Unionfs

MODES = ('auto', 'immutable')
LIMIT, LIMIT_LAYERS = 1.03, 1.10        # auto / immutable at most; the same for 128 layers


class Job:
    def __init__(self, name, title, lowers, do, prepare=None, source=None, limit=LIMIT):
        self.name, self.title, self.lowers, self.do = name, title, lowers, do
        self.prepare = prepare or (lambda run, m: None)
        self.source = source            # a further input
        self.limit = limit


def unpack(run, m):
    return tool('tar', '-C', m, '-xf', run.inputs.get('tar') + '/include.tar')


def rm(run, m):
    return tool('rm', '-rf', m + '/include')


def clone(run, m):
    return tool('git', 'clone', '-q', run.inputs.get('repo') + '/repo.git', m + '/clone')


def walk(run, m):
    return run.helpers('walk', m)


JOBS = [Job('untar', 'untar', 'empty', unpack, source='tar'),
        Job('rm.new', 'rm -rf of what was unpacked', 'empty', rm, prepare=unpack, source='tar'),
        Job('rm.lower', 'rm -rf of a lower tree', 'include', rm),
        Job('git.clone', 'git clone', 'empty', clone, source='repo'),
        Job('walk', 'first walk with stat', 'tree', walk),
        Job('walk.again', 'the same, again', 'tree', walk, prepare=walk),
        Job('layers.walk', '128 layers: first walk', 'layers', walk, limit=LIMIT_LAYERS)]


def mounted(run, job, mode):
    lowers = (run.inputs.layers(job.lowers) if job.lowers == 'layers' else [run.inputs.get(job.lowers)])
    words = [w for w in (run.args.our_opts, 'cache=' + mode) if w]
    mount = Unionfs(run.scratch.dir + '/watching', lowers, ','.join(words))
    mount.start()
    job.prepare(run, mount.path)
    syncfs(run.scratch.dir)
    return mount


def client_cpu():
    """Of what has been waited for: the tools, and of daemons only those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watched(mount):
    p = subprocess.run([Unionfs.program, 'ctl', mount.path, 'status', '--json'], stdout=subprocess.PIPE)
    return json.loads(p.stdout).get('watches', {}) if p.returncode == 0 else {}


def one(run, job, mode):
    mount = mounted(run, job, mode)
    try:
        client, daemon = client_cpu(), mount.cpu()
        seconds = job.do(run, mount.path)
        return {'seconds': seconds, 'client': client_cpu() - client, 'daemon': mount.cpu() - daemon,
                'watches': watched(mount), 'rss': mount.memory()[0]}
    finally:
        mount.close()


def counted(run, job, mode):
    """{system call: number} of the daemon."""
    mount = mounted(run, job, mode)
    try:
        strace = Strace(run.scratch.dir + '/strace', [mount.pid()])
        job.do(run, mount.path)
        return {'calls': strace.end(), 'watches': watched(mount)}
    finally:
        mount.close()


def matching(globs):
    return [j for j in JOBS if not globs or any(fnmatch.fnmatchcase(j.name, g) for g in globs)]


def measure(run):
    do, rounds = (counted, 1) if run.args.counts else (one, run.args.rounds)
    jobs = matching(run.args.only)
    samples = {(j.name, m): [] for j in jobs for m in MODES}
    for job in jobs:
        for name in [job.lowers] + [job.source] * bool(job.source):
            run.helpers('read', run.inputs.get(name))       # made, and in memory
    run.progress.total = rounds * len(samples)
    for n in range(rounds):
        for job in jobs:
            for mode in MODES[::-1 if n % 2 else 1]:
                run.progress.step('round %d/%d  %-12s %s' % (n + 1, rounds, job.name, mode))
                try:
                    samples[job.name, mode].append(do(run, job, mode))
                except (Failed, OSError) as e:
                    run.failures.setdefault('%s with cache=%s' % (job.name, mode), str(e))
    remove(run.scratch.dir + '/watching')
    make = compare_calls if run.args.counts else compare
    return [make(j, *(samples[j.name, m] for m in MODES)) for j in jobs
            if all(samples[j.name, m] for m in MODES)]


def compare(job, auto, immutable):
    """Medians, and of each round's ratio the median: what both rounds of a pair shared has no part in it."""
    e = {'row': job.name, 'title': job.title, 'limit': job.limit, 'watches': auto[-1]['watches'],
         'samples': {'auto': auto, 'immutable': immutable}}
    for s in auto + immutable:
        s['cpu'] = s['client'] + s['daemon']
    for key in ('seconds', 'client', 'daemon', 'cpu'):
        e[key] = [statistics.median(s[key] for s in side) for side in (auto, immutable)]
        e[key + '_ratio'] = statistics.median(a[key] / b[key] for a, b in zip(auto, immutable) if b[key])
    e['missed'] = e['seconds_ratio'] > job.limit and e['cpu_ratio'] > job.limit
    return e


def compare_calls(job, auto, immutable):
    a, b = auto[0]['calls'], immutable[0]['calls']
    return {'row': job.name, 'title': job.title, 'watches': auto[0]['watches'], 'missed': False,
            'calls': {n: [a.get(n, 0), b.get(n, 0)] for n in sorted(set(a) | set(b))}}


def number_watched(e):
    return sum(e['watches'].get(k, 0) for k in ('fanotify', 'inotify'))


def text(entries):
    if entries and 'calls' in entries[0]:
        return calls_text(entries)
    cells = [['', 'auto', 'immutable', 'ratio', 'client', 'daemon', 'cpu auto', 'immutable', 'ratio', 'limit',
              'watched', '']]
    for e in entries:
        cells.append(['%-12s %s' % (e['row'], e['title'])] + ['%.3f' % s for s in e['seconds']] +
                     ['%.3f' % e[k + '_ratio'] for k in ('seconds', 'client', 'daemon')] +
                     ['%.3f' % s for s in e['cpu']] + ['%.3f' % e['cpu_ratio'], '%.2f' % e['limit'],
                                                       str(number_watched(e)), 'MISSED' if e['missed'] else ''])
    return ['', 'cache=auto and cache=immutable: seconds; seconds of processor time of client and daemon. Ratios: '
            'median of the rounds\'; client, daemon: of their processor time.', ''] + report.columns(cells)


def calls_text(entries):
    lines = ['', 'System calls of the daemon, where cache=auto and cache=immutable differ by more than 1 in 100:']
    for e in entries:
        lines += ['', '%s: %s, %d directories watched' % (e['row'], e['title'], number_watched(e))]
        total = [sum(v[i] for v in e['calls'].values()) for i in (0, 1)]
        cells = [['', 'auto', 'immutable', 'more', '']]
        for name, (a, b) in sorted(dict(e['calls'], total=total).items(), key=lambda i: i[1][1] - i[1][0]):
            if abs(a - b) * 100 > max(a, b):
                cells.append(['  ' + name, str(a), str(b), str(a - b), ''])
        lines += report.columns(cells)
    return lines
