#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Integration tests of fuse-unionfs, through real mounts. See README.md.

    harness.py [--only GLOB]... [--list] [--long] [--keep] [-j N]

UNIONFS names the binary (default: build/fuse-unionfs). Sanitizer settings pass through.
"""
import argparse
import fnmatch
import glob
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

from lib import kernel as k                 # noqa: E402
from lib import registry, sandbox           # noqa: E402
sys.path.insert(0, HERE + '/../lib')
import more_options                         # noqa: E402
from lib.images import FUSE, Images         # noqa: E402

# A test that exchanges names, or wants a log without lines, on an upper that cannot: not its fault.
NEEDS_EXCHANGE = re.compile(r"exchange\(|swap\n|rename2\(.*, 2\)|RENAME_EXCHANGE|upperdir: .*: no [A-Z]")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--only', action='append', metavar='GLOB',
                   help="tests whose name or 'name [identity, fs]' matches; may be repeated")
    p.add_argument('--list', action='store_true')
    p.add_argument('--long', action='store_true', help='every file system times every identity')
    p.add_argument('--keep', action='store_true', help='keep the logs of failed tests')
    p.add_argument('-j', type=int, default=2, metavar='N', help='at a time; up to twice as many while processors are idle')
    p.add_argument('--base', help='scratch directory (default: $TMPDIR or /var/tmp)')
    p.add_argument('--without', metavar='WORDS',
                   help='the daemon is refused these calls, see tests/lib/without')
    p.add_argument('--opts', metavar='OPTIONS', default=os.environ.get('UNIONFS_OPTS'),
                   help='every daemon gets these as well, before its own (default: UNIONFS_OPTS): io_uring=on')
    p.add_argument('--on', metavar='FS', help='only on this file system: bindfs, fuse2fs, xfs ..')
    p.add_argument('--slow', type=float, default=0,
                   help='factor for time limits (default: 1, with a sanitizer 3)')
    return p.parse_args()


def selected(args):
    for path in sorted(glob.glob(HERE + '/test_*.py')):
        importlib.import_module(os.path.basename(path)[:-3])
    for case in registry.CASES:
        if case.long and not args.long:
            continue
        variants = case.variants(args.long)
        if args.on:
            variants = [(ident, args.on) for ident in case.identities]
        for ident, fs in variants:
            full = '%s [%s, %s]' % (case.name, ident, fs)
            if not args.only or any(fnmatch.fnmatchcase(case.name, g) or full == g or
                                    fnmatch.fnmatchcase(full, g.replace('[', '[[]'))
                                    for g in args.only):
                yield case, ident, fs


def is_sanitized(binary):
    out = subprocess.run(['ldd', binary], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return 'san' in out.stdout


# With --opts passthrough=on: a test that asks for what that excludes, or whose daemon may not have it. Not its fault.
NO_PASSTHROUGH = re.compile('option passthrough=on excludes writeback=1|passthrough=on: it takes CAP_SYS_ADMIN')


class Idle:
    """Are processors left over? Many tests wait most of the time; those that work keep others from being started."""

    def __init__(self):
        self.begin()

    def begin(self):
        self.at, self.before = time.monotonic(), self.look()

    def look(self):
        try:
            with open('/proc/stat') as f:
                ticks = [int(n) for n in f.readline().split()[1:]]
        except (OSError, ValueError):
            return 0, 0
        return ticks[3], sum(ticks)

    def enough(self):
        """Half a processor of two, for a second; it is asked anew after each answer."""
        if time.monotonic() - self.at < 1:
            return False
        idle, all_ = (now - then for now, then in zip(self.look(), self.before))
        self.begin()
        return idle > all_ / 4


class Run:
    def __init__(self, args, binary):
        self.args = args
        self.slow = args.slow or (3 if is_sanitized(binary) else 1)
        base = args.base or os.environ.get('TMPDIR') or '/var/tmp'
        self.dir = tempfile.mkdtemp(prefix='unionfs-', dir=base)
        os.chmod(self.dir, 0o755)
        os.mkdir(self.dir + '/logs')
        self.lacks_exchange = (args.on in FUSE or
                               bool({'exchange', 'bindfs'} & set((args.without or '').split(','))))
        self.refuser(binary)
        self.binary = self.without(binary) if args.without else binary
        if args.opts:
            os.environ['UNIONFS_OPTS'] = args.opts      # for what tests say of all daemons
            self.binary = self.with_options(self.binary)
        self.images = Images(self.dir)
        self.counts = {'pass': 0, 'fail': 0, 'skip': 0}
        self.failed = []
        self.running = {}
        self.idle = Idle()

    def without(self, binary):
        """A program that is the daemon, but for what it is refused."""
        here, lib = os.path.join(self.dir, 'without'), self.dir + '/lib'
        os.mkdir(here, 0o755)
        shutil.copy(HERE + '/../lib/without', lib)
        shutil.copy(binary, lib)
        here = os.path.join(here, os.path.basename(binary))
        with open(here, 'w') as f:
            f.write('#!/bin/sh\nexec %s/without %s %s/%s "$@"\n' %
                    (lib, self.args.without, lib, os.path.basename(binary)))
        os.chmod(here, 0o755)
        return here

    def with_options(self, binary):
        """A program that is the daemon, with more options."""
        os.mkdir(self.dir + '/opts', 0o755)
        if not self.args.without:
            binary = shutil.copy(binary, self.dir + '/lib')
        return more_options.program(os.path.join(self.dir, 'opts', os.path.basename(binary)), binary, self.args.opts)

    def refuser(self, binary):
        """Where every identity can read it: what refuses calls to a daemon it is preloaded into; and the tool."""
        tool = os.path.join(os.path.dirname(binary), 'fuse-unionfs-layer')
        lib = os.path.join(os.path.dirname(binary), 'tests/librefuse.so')
        os.mkdir(self.dir + '/lib', 0o755)
        if os.path.exists(lib):
            os.environ['UNIONFS_REFUSE_LIB'] = shutil.copy(lib, self.dir + '/lib')
        if os.path.exists(tool):
            os.environ['UNIONFS_LAYER'] = shutil.copy(tool, self.dir + '/lib')

    def has_room(self, alone):
        if len(self.running) < (1 if alone else self.args.j):
            return True
        return not alone and len(self.running) < 2 * self.args.j and self.idle.enough()

    def all(self, wanted):
        """Jobs that share the machine first, then one by one those that must be alone."""
        jobs = []
        for number, (case, ident, fs) in enumerate(wanted):
            jobs.append((case.alone, number, case, ident, fs))
        for alone in (False, True):
            for _, number, case, ident, fs in [j for j in jobs if j[0] == alone]:
                while not self.has_room(alone):
                    self.wait_one(0.05)
                where, why = self.images.get(fs)
                if where is None:
                    self.report('%s [%s, %s]' % (case.name, ident, fs), 'skip', why, 0)
                    continue
                job = sandbox.Job(number, case, ident, fs, self.dir, where, self.binary, self.slow)
                self.running[job.start()] = job
                self.idle.begin()
            while self.running:
                self.wait_one()

    def wait_one(self, seconds=None):
        """Until one has ended, or for so long."""
        pid, _ = os.waitpid(-1, 0 if seconds is None else os.WNOHANG)
        if pid == 0:
            time.sleep(seconds)
            return
        job = self.running.pop(pid, None)
        if job is None:
            return
        r = job.result()
        self.report(job.label(), r['outcome'], r['text'], r['seconds'], job)
        subprocess.run(['chattr', '-R', '-f', '-ia', job.dir], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        subprocess.run(['rm', '-rf', job.dir], stderr=subprocess.DEVNULL)   # trees may be deep
        if r['outcome'] != 'fail' or not self.args.keep:
            shutil.rmtree(job.logs, ignore_errors=True)

    def report(self, label, outcome, text, seconds, job=None):
        if (outcome == 'fail' and self.lacks_exchange and not text.startswith('mount failed') and
                NEEDS_EXCHANGE.search(text)):
            outcome, text = 'skip', 'the upper lacks something, and says so'
        if outcome == 'fail' and 'passthrough=on' in (self.args.opts or ''):
            why = NO_PASSTHROUGH.search(text + self.logs(job))
            outcome, text = ('skip', why[0]) if why else (outcome, text)
        self.counts[outcome] += 1
        line = '%s %s' % (outcome.upper(), label)
        if outcome == 'skip':
            line += ': ' + text
        elif seconds >= 1:
            line += ' (%.1f s)' % seconds
        print(line)
        if outcome == 'fail':
            self.failed.append(label)
            for part in text.rstrip().split('\n'):
                print('    ' + (part if len(part) < 1500 else part[:700] + ' ... ' + part[-700:]))
            if job:
                self.tail_of_logs(job)
        sys.stdout.flush()

    def logs(self, job):
        said = ''
        for log in glob.glob(job.logs + '/*.log') if job else ():
            with open(log, errors='replace') as f:
                said += f.read()
        return said

    def tail_of_logs(self, job):
        for log in sorted(glob.glob(job.logs + '/*.log') + [job.logs + '/output']):
            try:
                with open(log, errors='replace') as f:
                    said = f.read().rstrip()
            except OSError:
                continue
            if said:
                print('    -- %s' % os.path.basename(log))
                print('       ' + said[-1500:].replace('\n', '\n       '))
        print('    again: tests/integration/harness.py --keep --only %r%s' %
              (job.label(), '; logs in %s' % job.logs if self.args.keep else ''))

    def close(self):
        self.images.close()
        if not (self.args.keep and self.failed):
            subprocess.run(['rm', '-rf', self.dir], stderr=subprocess.DEVNULL)


def main():
    args = arguments()
    sys.stdout.reconfigure(line_buffering=True, errors='replace')
    wanted = list(selected(args))
    if args.list:
        for case, ident, fs in wanted:
            print('%s [%s, %s]' % (case.name, ident, fs))
        return 0
    binary = os.environ.get('UNIONFS') or os.path.join(HERE, '../../build/fuse-unionfs')
    binary = os.path.realpath(binary)
    if not os.access(binary, os.X_OK):
        sys.exit('%s: no such program (set UNIONFS)' % binary)
    if os.geteuid() == 0:
        try:
            k.private_namespace()           # images are mounted for this run only
        except OSError as e:
            sys.exit('cannot make a mount namespace: %s' % e)
    # Ended from outside: leave nothing behind.
    signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))
    run = Run(args, binary)
    begin = time.monotonic()
    try:
        run.all(wanted)
    finally:
        run.close()
    if run.failed:
        print('failed:\n  ' + '\n  '.join(run.failed))
    print('%d s' % (time.monotonic() - begin))
    c = run.counts
    print('%d passed, %d failed, %d skipped' % (c['pass'], c['fail'], c['skip']))
    return 1 if c['fail'] else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except BrokenPipeError:
        os._exit(1)
