# SPDX-License-Identifier: GPL-2.0-or-later
"""
How long it takes until a change in a lower is seen in the mount (--sight): bench-sight makes the changes and
looks, with the machine idle and with as many processes that burn time as there are processors.
"""
import os
import random

from . import report
from .base import syncfs, tool
from .mounts import Unionfs

KINDS = ('edit', 'create', 'chmod', 'remove')
N, N_QUICK = 500, 100
POLL_NS = 20000         # a reader that never sleeps would be one more that burns time
# Milliseconds at most: of half of the changes with the machine idle, of 99 in 100 with it busy.
MEDIAN, P99 = 0.2, 5
FILES = 100             # beside those that change


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) * p // 100, len(values) - 1)]


def sample(run, busy):
    """{kind: milliseconds} of one run of the helper, on a new mount of two lowers that merge."""
    top = run.scratch.dir + '/sight'
    lowers = [top + '/a', top + '/b']
    for n, lower in enumerate(lowers):
        os.makedirs(lower + '/d')
        for i in range(FILES):
            with open('%s/d/f%d%d' % (lower, n, i), 'w') as f:
                f.write('x' * random.randrange(5000))
    syncfs(top)
    mount = Unionfs(top + '/m', lowers, run.args.our_opts)
    mount.start()
    try:
        _, said = tool(run.helpers.dir + '/bench-sight', lowers[0] + '/d', mount.path + '/d',
                       str(N_QUICK if run.args.quick else N), str(POLL_NS), str(busy), output=True)
    finally:
        mount.close()
        tool('rm', '-rf', top)
    return {w[0]: [int(ns) / 1e6 for ns in w[1:]] for w in map(str.split, said.splitlines())}


def measure(run):
    """One entry for each state of the machine and kind of change; figures of all rounds together."""
    samples, loads = {}, {}
    states = {'idle': 0, 'busy': os.cpu_count()}
    run.progress.total = run.args.rounds * len(states)
    for n in range(run.args.rounds):
        for state, busy in states.items():
            run.progress.step('round %d/%d  %s' % (n + 1, run.args.rounds, state))
            loads.setdefault(state, os.getloadavg()[0])
            for kind, took in sample(run, busy).items():
                samples.setdefault((state, kind), []).extend(took)
    out = []
    for state in states:
        for kind in KINDS:
            took = samples[state, kind]
            e = {'state': state, 'kind': kind, 'n': len(took), 'load': loads[state],
                 'median': percentile(took, 50), 'p99': percentile(took, 99), 'max': max(took)}
            e['missed'] = e['median'] > MEDIAN if state == 'idle' else e['p99'] > P99
            out.append(e)
    return out


def text(entries):
    cells = [['', 'changes', 'median', 'p99', 'most', 'load', '']]
    for e in entries:
        limit = 'median at most %g' % MEDIAN if e['state'] == 'idle' else 'p99 at most %g' % P99
        cells.append(['%s, %s' % (e['kind'], e['state']), str(e['n'])] +
                     ['%.3f' % e[key] for key in ('median', 'p99', 'max')] +
                     ['%.1f' % e['load'], ('MISSED: ' if e['missed'] else '') + limit])
    return ['', 'Milliseconds from a change in a lower until the mount shows it; busy: with %d processes that burn '
            'time; load: before.' % os.cpu_count(), ''] + report.columns(cells)
