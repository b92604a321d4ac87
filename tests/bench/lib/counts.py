# SPDX-License-Identifier: GPL-2.0-or-later
"""
Counting what noise cannot blur: the requests the kernel sends (its own trace events, so for any
FUSE file system alike) and the daemon's system calls (strace).
"""
import os
import re
import shutil
import signal
import subprocess
import time

from .base import Failed, die_with_parent, k

TRACING = '/sys/kernel/tracing'
QUIET = ('FORGET', 'BATCH_FORGET', 'INTERRUPT')         # come when the kernel likes
# What a daemon does to get and answer requests, and to wait.
WAITING = {'futex', 'poll', 'ppoll', 'epoll_wait', 'epoll_pwait', 'clock_nanosleep', 'nanosleep',
           'sched_yield', 'rt_sigtimedwait', 'io_uring_enter', 'rt_sigprocmask', 'restart_syscall'}


class KernelRequests:
    """fuse_request_send events of some connections, in a trace buffer of our own."""

    def __init__(self):
        self.dir = None
        if not k.mounted_at(TRACING):
            try:
                k.mount('tracefs', TRACING, 'tracefs')
            except OSError:
                return
        if not os.path.isdir(TRACING + '/events/fuse/fuse_request_send'):
            return
        self.dir = '%s/instances/unionfs-bench-%d' % (TRACING, os.getpid())
        os.mkdir(self.dir)
        self._write('buffer_size_kb', '65536')
        self._write('events/fuse/fuse_request_send/enable', '1')
        self._write('tracing_on', '0')
        self.names = self._opcodes()

    def _write(self, name, text):
        with open(self.dir + '/' + name, 'w') as f:
            f.write(text)

    def _opcodes(self):
        with open(self.dir + '/events/fuse/fuse_request_send/format') as f:
            return dict(re.findall(r'\{(\d+), "FUSE_(\w+)"\}', f.read()))

    def begin(self, mounts):
        if not self.dir:
            return
        devices = [os.stat(m.path).st_dev for m in mounts]
        self._write('events/fuse/fuse_request_send/filter',
                    ' || '.join('connection == %d' % d for d in devices))
        self._write('trace', '')
        self._write('tracing_on', '1')

    def end(self):
        """{kind: number}, or None when the kernel cannot tell."""
        if not self.dir:
            return None
        self._write('tracing_on', '0')
        out = {}
        with open(self.dir + '/trace', errors='replace') as f:
            for line in f:
                m = re.search(r' req \d+ opcode (\d+) ', line)
                if m:
                    name = self.names.get(m[1], m[1])
                    out[name] = out.get(name, 0) + 1
        return {n: c for n, c in out.items() if n not in QUIET}

    def close(self):
        if self.dir:
            os.rmdir(self.dir)


class Strace:
    """Attached to daemons between begin() and end()."""

    def __init__(self, out, pids, each=False):
        self.out, self.each = out, each
        argv = ['strace', '-f', '-q', '-o', out] + (['-y'] if each else ['-c'])
        for pid in pids:
            argv += ['-p', str(pid)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=die_with_parent)
        end = time.monotonic() + 20
        while not all(self._traced(p) for p in pids):
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed('strace cannot attach')
            time.sleep(0.01)

    def _traced(self, pid):
        for task in os.listdir('/proc/%d/task' % pid):
            with open('/proc/%d/task/%s/status' % (pid, task)) as f:
                if re.search(r'TracerPid:\s+0\b', f.read()):
                    return False
        return True

    def end(self):
        """{call: number}."""
        time.sleep(0.02)                # a reply given is a call not yet returned from
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        with open(self.out, errors='replace') as f:
            said = f.read()
        return self._each(said) if self.each else self._summary(said)

    def _summary(self, said):
        out = {}
        for line in said.split('\n'):
            words = line.split()
            if len(words) >= 5 and re.fullmatch(r'[\d.]+', words[0]) and words[-1] != 'total':
                out[words[-1]] = out.get(words[-1], 0) + int(words[3])
        return out

    def _each(self, said):
        """Without those that only carry requests."""
        out = {}
        for line in said.split('\n'):
            m = re.match(r'\d+ +(\w+)\((.*)', line)
            if not m or m[1] in WAITING or 'detached' in line:
                continue
            first = m[2].split(',', 1)[0]
            if '/dev/fuse' in first or (m[1] == 'splice' and '/dev/fuse' in m[2]):
                continue
            out[m[1]] = out.get(m[1], 0) + 1
        return out


class Counting:
    """The probe of --counts: every row once, with strace and the kernel's trace."""

    def __init__(self, scratch):
        self.scratch, self.kernel = scratch, KernelRequests()

    def __call__(self, case, action, reset, repeat):
        mounts = case.daemons()
        if not mounts:
            action()                    # mounting: no daemon yet
            return {}
        strace = None
        if shutil.which('strace'):
            strace = Strace(self.scratch + '/strace', [m.pid() for m in mounts])
        self.kernel.begin(mounts)
        try:
            action()
        finally:
            requests = self.kernel.end()
            calls = strace.end() if strace else None
        return {'requests': requests, 'calls': calls}


def count_rows(run):
    """{row: {file system: {'requests': {}, 'calls': {}}}}, by default options."""
    run.probe = Counting(run.scratch.dir)
    samples, run.samples = run.samples, {}
    pieces = list(run.pieces())
    run.progress.done, run.progress.total = 0, 2 * len(pieces)
    try:
        for piece in pieces:
            run.warm(piece)
            for subject in run.subjects(piece):
                if subject.line == '' and subject.fs.startswith('fuse-'):
                    run.progress.step('counting  %-12s %s' % (piece.fn.__name__, subject.name))
                    run.one(piece, subject)
        return {row: {name: s[0] for name, s in got.items() if s[0]}
                for row, got in run.samples.items()}
    finally:
        run.probe.kernel.close()
        run.samples = samples
