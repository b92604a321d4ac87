# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the work: round by round, all file systems in turn, and what each piece of it yields."""
import os
import statistics
import time

from . import rows
from .base import Failed, foreign_drops, missing, remove, syncfs, watchdog
from .mounts import KINDS

SHORT, LONG_ENOUGH = 0.1, 0.5           # seconds: a shorter row is repeated until it lasts so long
MOST_REPEATS, MOST_SECONDS = 500, 3     # ... or until this
RETRIES = 2                             # when somebody else emptied the machine's caches


class Subject:
    """A file system as one line of the table wants it mounted."""

    def __init__(self, fs, line='', opts=''):
        self.fs, self.line, self.opts = fs, line, opts
        self.name = '%s, %s' % (fs, line) if line else fs


class Case:
    """One piece of work on one subject: what the functions in rows_*.py see as @b."""

    def __init__(self, run, piece, subject):
        self.run, self.piece, self.subject = run, piece, subject
        self.inputs, self.size, self.helper = run.inputs, run.inputs.size, run.helpers
        self.plain = subject.fs == 'ext4'
        base = run.scratch.dir + ('/tmpfs' if piece.on == 'tmpfs' else '')
        self.dir = base + '/case'
        remove(self.dir)
        os.mkdir(self.dir)
        self.mounts = []

    # ---- mounts

    def mount(self, *lowers, name='m', writes=False):
        """Inputs (or directories) as lowers, the first on top; returns where they are seen."""
        lowers = [l if l.startswith('/') else self.inputs.get(l) for l in lowers]
        if self.piece.on == 'tmpfs':
            lowers = [self.dir + '/lower']
            os.mkdir(lowers[0])
        kind = KINDS[self.subject.fs]
        args = {'writes': writes} if self.plain else {}
        mount = kind('%s/%s' % (self.dir, name), lowers, self.subject.opts, **args)
        self.mounts.append(mount)
        mount.start()
        self.settle()
        return mount.path

    def start(self):
        return sum(m.start() for m in self.mounts)

    def stop(self):
        return sum(m.stop() for m in reversed(self.mounts))

    def remount(self):
        self.stop()
        self.start()

    def fresh(self):
        for m in self.mounts:
            m.fresh()
        self.settle()

    def settle(self):
        """What was prepared does not burden what is measured."""
        syncfs(self.run.scratch.dir)

    def daemons(self):
        return [m for m in self.mounts if m.pid()]

    def abort(self):
        for m in self.mounts:
            m.abort()

    def close(self):
        for m in self.mounts:
            m.close()
        remove(self.dir)

    # ---- figures

    def measure(self, row, action, reset=None, repeat=True):
        """@action returns its seconds. @reset puts things back before it is repeated."""
        wanted = row in self.run.wanted
        with watchdog(self.abort):
            if wanted:
                sample = self.run.probe(self, action, reset, repeat)
                self.run.record(row, sample)
            else:
                action()                # others depend on it


def timed(case, action, reset, repeat):
    """The probe of an ordinary run."""
    requests = Requests(case)
    total, times, cpu = 0.0, 0, 0.0
    end = time.monotonic() + MOST_SECONDS
    while True:
        before = _cpu(case)
        total += action()
        after = _cpu(case)
        cpu += after - before if len(case.daemons()) else 0
        times += 1
        if times == 1:
            counted = requests.since()
        if (not repeat or total / times >= SHORT or total >= LONG_ENOUGH or times >= MOST_REPEATS or
                time.monotonic() > end):
            break
        if reset:
            reset()
    sample = {'seconds': total / times, 'times': times}
    if case.daemons():
        held = [m.memory() for m in case.daemons()]
        sample.update(daemon_cpu=cpu / times, rss=max(h[0] for h in held), fds=max(h[1] for h in held))
    if counted is not None:
        sample['requests'] = counted
    return sample


def _cpu(case):
    return sum(m.cpu() for m in case.daemons())


class Requests:
    """What our daemons count of themselves; None for others, and where a daemon was changed."""
    QUIET = ('FORGET', 'BATCH_FORGET', 'INTERRUPT')     # come when the kernel likes

    def __init__(self, case):
        self.case = case
        self.before = self._now()

    def _now(self):
        return {m.pid(): m.requests() for m in self.case.daemons()}

    def since(self):
        now, out = self._now(), {}
        if not now or now.keys() != self.before.keys() or None in now.values():
            return None
        for pid, counts in now.items():
            for name, n in counts.items():
                n -= self.before[pid].get(name, 0)
                if n and name not in self.QUIET:
                    out[name] = out.get(name, 0) + n
        return out


class Run:
    """All the rounds; the samples are in .samples[row][subject name]."""

    def __init__(self, args, scratch, inputs, helpers, progress):
        self.args, self.scratch, self.inputs, self.helpers = args, scratch, inputs, helpers
        self.progress = progress
        self.wanted = rows.matching(args.only)
        self.probe = timed
        self.samples, self.failures, self.skipped = {}, {}, {}
        self.new = []                   # of the piece of work in hand

    def subjects(self, piece):
        """Each file system as mounted by default, then the other lines of kernel and us."""
        own = {'kernel': self.args.kernel_opts, 'fuse-unionfs': self.args.our_opts}
        out = []
        for line, kernel, ours in [('', '', '')] + list(piece.lines):
            for fs in self.args.fs:
                if (line and fs not in own) or (fs == 'ext4' and not piece.plain):
                    continue
                extra = {'kernel': kernel, 'fuse-unionfs': ours}.get(fs, '')
                words = [w for w in (own.get(fs, ''), extra) if w]
                out.append(Subject(fs, line, ','.join(words)))
        return out

    def pieces(self):
        order = [r.name for r in rows.ROWS]
        for piece in sorted(rows.WORKS, key=lambda p: order.index(p.rows[0])):
            if not self.wanted.intersection(piece.rows):
                continue
            lacking = missing(piece.needs)
            if lacking:
                for row in piece.rows:
                    self.skipped[row] = '%s is missing' % ', '.join(lacking)
                continue
            yield piece

    def all(self, rounds):
        pieces = list(self.pieces())
        self.progress.total = rounds * sum(len(self.subjects(p)) for p in pieces)
        for n in range(rounds):
            for piece in pieces:
                self.warm(piece)
                subjects = self.subjects(piece)
                turn = n % len(subjects)        # nobody is always the first
                for subject in subjects[turn:] + subjects[:turn]:
                    self.progress.step('round %d/%d  %-12s %s' % (n + 1, rounds, piece.fn.__name__,
                                                                 subject.name))
                    self.one(piece, subject)

    def warm(self, piece):
        for name in piece.warm:
            self.helpers('read', self.inputs.get(name))

    def one(self, piece, subject):
        """Once, or again when what was warm did not stay so; if that does not help, it is told."""
        for attempt in range(RETRIES + 1):
            before, self.new = foreign_drops(), []
            self.attempt(piece, subject)
            disturbed = foreign_drops() != before
            if not disturbed:
                break
            self.warm(piece)
        for row, sample in self.new:
            if disturbed:
                sample['disturbed'] = True
            self.samples.setdefault(row, {}).setdefault(subject.name, []).append(sample)

    def attempt(self, piece, subject):
        case = Case(self, piece, subject)
        try:
            piece.fn(case)
        except (Failed, OSError) as e:
            self.failures.setdefault('%s on %s' % (piece.fn.__name__, subject.name), str(e))
            self.progress('%s on %s: %s' % (piece.fn.__name__, subject.name, e))
        finally:
            case.close()

    def record(self, row, sample):
        self.new.append((row, sample))


def medians(samples):
    """Of a list of samples, those not disturbed if there are any: the median of each number; counts
    as they were last."""
    out = {}
    samples = [s for s in samples if 'disturbed' not in s] or samples
    for key in samples[-1]:
        if key in ('requests', 'disturbed'):
            out[key] = samples[-1][key]
        else:
            out[key] = statistics.median(s[key] for s in samples if key in s)
    return out
