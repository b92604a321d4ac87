# SPDX-License-Identifier: GPL-2.0-or-later
"""From samples to figures: JSON, and the table. The JSON alone is enough to print them again."""
import os
import platform
import re
import subprocess

from . import rows
from .measure import medians

FS = ('ext4', 'kernel', 'fuse-overlayfs', 'fuse-unionfs')
SHORT = {'ext4': 'ext4', 'kernel': 'kernel', 'fuse-overlayfs': 'f-ovl', 'fuse-unionfs': 'us'}


def machine(binary):
    def version(program):
        try:
            p = subprocess.run([program, '--version'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True)
        except OSError:
            return 'absent'
        found = re.search(r'^fuse-(?:overlayfs|unionfs)\W.*?(\d[\w.-]*)', p.stdout, re.M)
        return found[1] if found else p.stdout.split('\n')[0]

    with open('/proc/cpuinfo') as f:
        model = re.search(r'model name\s*: (.*)', f.read())
    return {'kernel': platform.release(), 'cpus': os.cpu_count(), 'cpu': model[1] if model else '?',
            'memory_mib': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 20,
            'load': os.getloadavg()[0],
            'fuse-unionfs': version(binary),
            'fuse-overlayfs': version('fuse-overlayfs')}


def _ratio(a, b):
    return a / b if a and b else None


def figures(samples):
    """One entry for each line of the table, in order."""
    out = []
    for row in rows.ROWS:
        if row.name not in samples:
            continue
        got = {name: medians(s) for name, s in samples[row.name].items()}
        for line, _, _ in rows.lines_of(row.name):
            entry = {'row': row.name, 'title': row.title, 'line': line, 'fs': {}}
            for fs in FS:
                # those without options of their own serve every line
                own = '%s, %s' % (fs, line) if line and fs in ('kernel', 'fuse-unionfs') else fs
                if own in got:
                    entry['fs'][fs] = dict(got[own], samples=[s['seconds'] for s in
                                                              samples[row.name][own]])
            if entry['fs']:
                judge(entry, row)
                out.append(entry)
    return out


def judge(entry, row):
    """The ratios, the limits, and which of them are missed."""
    seconds = {fs: v['seconds'] for fs, v in entry['fs'].items()}
    ours = seconds.get('fuse-unionfs')
    entry['us_kernel'] = _ratio(ours, seconds.get('kernel'))
    entry['fo_us'] = _ratio(seconds.get('fuse-overlayfs'), ours)
    entry['disturbed'] = [fs for fs, v in entry['fs'].items() if v.get('disturbed')]
    entry['limit'] = row.alternative if entry['line'] else row.limit
    entry['missed'] = missed = []
    if entry['limit'] and entry['us_kernel'] and entry['us_kernel'] > entry['limit']:
        missed.append('kernel')
    if row.seconds and ours and ours > row.seconds:
        missed.append('%g s' % row.seconds)
    # fuse-overlayfs never syncs: it is judged against the line that does not, where there is one
    lines = [l[0] for l in rows.lines_of(row.name)]
    judged = lines[1] if len(lines) > 1 else ''
    if entry['line'] == judged and entry['fo_us'] and entry['fo_us'] < 1:
        missed.append('fuse-overlayfs')


def scaling(entries):
    """How much more two and four processes do than one, on tmpfs and on unions of it."""
    at = {e['row']: e['fs'] for e in entries if not e['line']}
    out = []
    for n in (2, 4):
        one, many = at.get('tmpfs.procs.1'), at.get('tmpfs.procs.%d' % n)
        if not one or not many:
            continue
        speed = {fs: n * one[fs]['seconds'] / many[fs]['seconds'] for fs in FS if fs in one and fs in many}
        entry = {'processes': n, 'speed': speed, 'limit': rows.SCALING if n == 2 else None}
        if 'ext4' in speed and 'fuse-unionfs' in speed:
            entry['relative'] = speed['fuse-unionfs'] / speed['ext4']
            entry['missed'] = bool(entry['limit']) and entry['relative'] < entry['limit']
        out.append(entry)
    return out


# ---- text

def _seconds(v):
    if v is None:
        return '-'
    return '%.4f' % v if v < 0.01 else '%.3f' % v if v < 1 else '%.2f' % v


def _times(v):
    return '-' if v is None else '%.2f' % v if v < 10 else '%.1f' % v


def _held(entry, fs):
    got = entry['fs'].get(fs, {})
    if 'rss' not in got:
        return '-'
    return '%.1f/%d' % (got['rss'] / 1048576, got['fds'])


def _remarks(entry):
    said = []
    if entry['missed']:
        said.append('MISSED: ' + ', '.join(entry['missed']))
    if entry['disturbed']:
        said.append('disturbed: ' + ', '.join(SHORT[fs] for fs in entry['disturbed']))
    return '; '.join(said)


def table(entries):
    """Lines of text."""
    head = ['', 'ext4', 'kernel', 'f-ovl', 'us', 'us/kernel', 'limit', 'f-ovl/us', 'requests',
            'MiB/fds us', 'f-ovl', '']
    body = []
    for e in entries:
        s = {fs: e['fs'].get(fs, {}).get('seconds') for fs in FS}
        requests = e['fs'].get('fuse-unionfs', {}).get('requests')
        body.append([('    with ' + e['line']) if e['line'] else '%-14s %s' % (e['row'], e['title'])] +
                    [_seconds(s[fs]) for fs in FS] +
                    [_times(e['us_kernel']), '%g' % e['limit'] if e['limit'] else '',
                     _times(e['fo_us']), '-' if requests is None else str(sum(requests.values())),
                     _held(e, 'fuse-unionfs'), _held(e, 'fuse-overlayfs'),
                     _remarks(e)])
    return columns([head] + body)


def columns(cells):
    widths = [max(len(r[i]) for r in cells) for i in range(len(cells[0]))]
    return [''.join([r[0].ljust(widths[0])] + ['  ' + c.rjust(w) for c, w in zip(r[1:-1], widths[1:])] +
                    ['  ' + r[-1]]).rstrip() for r in cells]


def text(data):
    """The whole report."""
    m = data['machine']
    lines = ['%s, kernel %s, %d CPUs, load %.1f at the start; fuse-unionfs %s, fuse-overlayfs %s' %
             (m['cpu'], m['kernel'], m['cpus'], m['load'], m['fuse-unionfs'], m['fuse-overlayfs']),
             'inputs: ' + '; '.join('%s %s' % i for i in data['inputs'].items())]
    if data.get('quick'):
        lines.append('--quick: smaller inputs than the titles say; ratios of short rows are rough')
    if data.get('rows'):
        lines += ['', 'Seconds, median of %d round%s; f-ovl: fuse-overlayfs, us: fuse-unionfs.' %
                  (data['rounds'], 's'[:data['rounds'] != 1]), ''] + table(data['rows'])
    for s in data.get('scaling', ()):
        lines.append('%d processes do, times one (layers on tmpfs): %s%s' % (
            s['processes'],
            ', '.join('%s %.2f' % ({'ext4': 'tmpfs'}.get(fs, fs), v) for fs, v in s['speed'].items()),
            '; us/tmpfs %.2f%s%s' % (s['relative'], ', at least %g' % s['limit'] if s['limit'] else '',
                                     '  MISSED' if s['missed'] else '') if 'relative' in s else ''))
    lines += _counts(data) + _other_questions(data)
    missed = [e for e in data.get('rows', ()) if e['missed']]
    if any(e['disturbed'] for e in data.get('rows', ())):
        lines += ['', 'disturbed: others emptied the caches of this machine each time it was measured']
    if data.get('rows'):
        lines += ['', '%d of %d lines miss a limit' % (len(missed), len(data['rows']))]
    for what in ('skipped', 'failures'):
        lines += ['%s: %s: %s' % (what, k, v) for k, v in sorted(data.get(what, {}).items())]
    return '\n'.join(lines) + '\n'


def _counts(data):
    lines = []
    if data.get('counts'):
        lines += ['', 'Requests (the kernel\'s count) and system calls of the daemons, once through:', '']
        lines += counts_table(data['counts'])
    if data.get('operations'):
        lines += ['', 'Per operation: requests, and system calls of the daemon other than for requests:',
                  ''] + operations_table(data['operations'])
    return lines


def _other_questions(data):
    from . import modes, sight, watching        # which use this module
    lines = modes.text(data['modes']) if data.get('modes') else []
    for what, module in (('sight', sight), ('watching', watching)):
        if data.get(what):
            lines += module.text(data[what])
            lines += ['', '%d of %d lines miss a limit' % (sum(e['missed'] for e in data[what]), len(data[what]))]
    return lines


def counts_table(counts):
    cells = [['', 'requests f-ovl', 'us', 'calls f-ovl', 'us', 'most frequent calls, us']]
    for row in rows.ROWS:
        got = counts.get(row.name)
        if not got:
            continue
        fo, us = got.get('fuse-overlayfs', {}), got.get('fuse-unionfs', {})

        def total(side, what):
            return str(sum(side[what].values())) if side.get(what) is not None else '-'

        top = sorted(us.get('calls', {}).items(), key=lambda i: -i[1])[:5]
        cells.append([row.name, total(fo, 'requests'), total(us, 'requests'), total(fo, 'calls'),
                      total(us, 'calls'), ' '.join('%s %d' % i for i in top)])
    return columns(cells)


def operations_table(operations):
    cells = [['', 'requests f-ovl', 'us', 'limit', 'calls f-ovl', 'us', 'limit', '']]

    def number(v):
        return '-' if v is None else '%.4g' % round(v, 2)

    for o in operations:
        fo, us = o.get('fuse-overlayfs', {}), o.get('fuse-unionfs', {})
        cells.append([o['title'], number(fo.get('requests')), number(us.get('requests')),
                      number(o['max_requests']).replace('-', ''), number(fo.get('calls')),
                      number(us.get('calls')), number(o['max_calls']).replace('-', ''),
                      ' '.join(['%s %s' % (n, number(c)) for n, c in us.get('kinds', {}).items()] +
                               (['MISSED'] if o['missed'] else []))])
    return columns(cells)
